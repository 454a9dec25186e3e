"""Windows that a command opens by itself, without the daemon: an error, and typing in a code.

At most one at a time: links can come from any page, and must not be able to fill a screen.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys

from agent.desktop import dialog_messages as messages
from agent.desktop import paths

LOCK_NAME = "window.lock"


def show_error(code: str, happened: str, why: str, next_step: str) -> bool:
    """Show an error in a window, without waiting for it to be closed.

    Returns:
        False when there is no display, or such a window is open already.
    """
    if not os.environ.get("DISPLAY"):
        return False
    lock = _take_lock()
    if lock is None:
        return False
    message: messages.Failure = {
        "show": "error",
        "code": code,
        "happened": happened,
        "why": why,
        "next_step": next_step,
    }
    try:
        control, process = _start(message, inherited=lock)
    finally:
        os.close(lock)
    control.close()  # the window stays: its page is a final one
    process.returncode = 0  # and it outlives this command
    return True


def ask_code(portals: list[str]) -> tuple[str, str] | None:
    """Ask for portal and code in a window.

    Args:
        portals: those to choose from, at least one.

    Returns:
        Portal and code as typed, or None when there is no display or the window was closed.
    """
    if not os.environ.get("DISPLAY"):
        return None
    control, process = _start({"show": "code", "portals": portals})
    chosen = None
    with control, control.makefile("r", encoding="utf-8") as lines:
        for line in lines:
            event: messages.Event = json.loads(line)
            if event["event"] == "code":
                chosen = event["portal"], event["code"]
    process.wait()
    return chosen


def _start(
    message: messages.ToWindow, inherited: int | None = None
) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair()
    environment = paths.handed_over(dict(os.environ)) | {"HOME": os.path.expanduser("~")}
    kept = (theirs.fileno(),) if inherited is None else (theirs.fileno(), inherited)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "agent.desktop.dialogs", "--control", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            pass_fds=kept,
            start_new_session=True,
        )
    ours.sendall(json.dumps(message).encode("ascii") + b"\n")
    return ours, process


def _take_lock() -> int | None:
    """A lock that the window's process holds as long as it lives; None when another one does."""
    try:
        folder = paths.prepare_runtime_directory()
        lock = os.open(f"{folder}/{LOCK_NAME}", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except (OSError, paths.UnsafePath):
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock

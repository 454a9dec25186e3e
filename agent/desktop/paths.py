"""Where the agent's private socket lives, and whether it can be trusted. Standard library only.

The folder and the socket must belong to this user and be closed to everybody else (0700 and 0600):
what is written to the socket opens windows, and another user's socket could collect codes.
"""

from __future__ import annotations

import os

SOCKET_NAME = "agent.sock"

ENVIRONMENT_ALLOWED = (
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_ACTIVATION_TOKEN",
    "DESKTOP_STARTUP_ID",
    "LANG",
    "LC_ALL",
    "XDG_SESSION_ID",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
)
"""What is handed from the caller's environment to the windows; nothing else ever is."""

EXIT_UNSAFE = 4
"""The agent's exit status when it doesn't trust one of its folders. Which one, and why, is for its starter to find."""

_SOCKET_TYPE = 0o140000
_FOLDER_TYPE = 0o040000
_TYPE_MASK = 0o170000


class UnsafePath(Exception):
    """The folder or the socket isn't private.

    Attributes:
        path: the path that was looked at.
        reason: ``owner``, ``mode`` or ``type``.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def runtime_directory() -> str:
    """The folder of the socket: ``$XDG_RUNTIME_DIR/inlay``, or ``~/.local/state/inlay/run``."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if base.startswith("/"):
        return base + "/inlay"
    return os.path.expanduser("~") + "/.local/state/inlay/run"


def socket_path() -> str:
    """The path of the daemon's private socket."""
    return f"{runtime_directory()}/{SOCKET_NAME}"


def prepare_runtime_directory() -> str:
    """Make the folder of the socket, closed to others, and return it.

    Raises:
        UnsafePath: it exists and isn't private.
        OSError: it can't be made.
    """
    path = runtime_directory()
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        check_private(path, folder=True)
    return path


def check_private(path: str, *, folder: bool) -> None:
    """Check that a folder, or a socket, is this user's and closed to everybody else.

    Raises:
        UnsafePath: it isn't; a symbolic link isn't either.
        FileNotFoundError: there is none.
    """
    status = os.lstat(path)
    if status.st_mode & _TYPE_MASK != (_FOLDER_TYPE if folder else _SOCKET_TYPE):
        raise UnsafePath(path, "type")
    if status.st_uid != os.geteuid():
        raise UnsafePath(path, "owner")
    if status.st_mode & 0o077:
        raise UnsafePath(path, "mode")


def check_not_others(path: str) -> None:
    """Check that a folder is this user's, and that nobody else may put anything into it.

    Raises:
        UnsafePath: it isn't so, or is no folder.
        OSError: there is none.
    """
    status = os.stat(path)
    if status.st_mode & _TYPE_MASK != _FOLDER_TYPE:
        raise UnsafePath(path, "type")
    if status.st_uid != os.geteuid():
        raise UnsafePath(path, "owner")
    if status.st_mode & 0o022:
        raise UnsafePath(path, "mode")


def handed_over(environment: dict[str, str]) -> dict[str, str]:
    """The allowed part of an environment; values that aren't UTF-8 are left out."""
    found = {}
    for name in ENVIRONMENT_ALLOWED:
        value = environment.get(name, "")
        if value and value.isprintable():
            found[name] = value
    return found

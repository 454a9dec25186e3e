"""A screen of the test run's own: Xvfb with a window manager, looked at and acted on as by a person."""

from __future__ import annotations

import os
import secrets
import struct
import subprocess
from typing import TYPE_CHECKING, Self

from tests.support.processes import Child, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LOOK_SECONDS = 0.05
"""Between two looks at the screen: each starts a program, which takes from what is waited for."""
_FAMILY_WILD = 0xFFFF
_COOKIE_NAME = b"MIT-MAGIC-COOKIE-1"
_DESKTOPS = 3
"""Other than openbox has by itself (four; one without its configuration)."""


class VirtualDisplay:
    """Xvfb and openbox; only who has the cookie file may connect.

    Attributes:
        folder: for cookie, logs and pictures.
        name: the value of ``DISPLAY``.
        env: this process's environment with ``DISPLAY`` and ``XAUTHORITY`` for the screen, and
            without what would lead to another desktop.
    """

    def __init__(
        self, folder: Path, *, width: int = 1280, height: int = 1024, manager: Sequence[str] = ("openbox",)
    ) -> None:
        """Prepare, without starting it.

        Args:
            folder: existing folder for cookie and logs.
            width: in pixels.
            height: in pixels.
            manager: the window manager's command.
        """
        self.folder = folder
        self._manager = list(manager)
        self._size = f"{width}x{height}x24"
        self._children: list[Child] = []
        self.name = ""
        self.env: dict[str, str] = {}

    def start(self) -> Self:
        """Start both, and wait until windows are managed."""
        cookie = self.folder / "Xauthority"
        fields = (b"", b"", _COOKIE_NAME, secrets.token_bytes(16))
        cookie.touch(mode=0o600)
        cookie.write_bytes(
            struct.pack(">H", _FAMILY_WILD) + b"".join(struct.pack(">H", len(f)) + f for f in fields)
        )
        read_end, write_end = os.pipe()
        with os.fdopen(read_end) as number:
            server = ["Xvfb", "-displayfd", str(write_end), "-screen", "0", self._size]
            options = ["-nolisten", "tcp", "-noreset", "-auth", str(cookie)]
            self._start(Child([*server, *options], log=self.folder / "xvfb.log", pass_fds=[write_end]))
            os.close(write_end)
            self.name = f":{number.readline().strip()}"
        unwanted = {"WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "XDG_CURRENT_DESKTOP", "DESKTOP_SESSION"}
        self.env = {name: value for name, value in os.environ.items() if name not in unwanted}
        self.env |= {"DISPLAY": self.name, "XAUTHORITY": str(cookie)}
        manager = self._start(Child(self._manager, log=self.folder / "manager.log", env=self.env))
        manager.wait_until(self._managed, f"{self._manager[0]} on the virtual screen")
        if self._manager == ["openbox"]:
            manager.wait_until(self._obeyed, "openbox to do what it is asked")
        return self

    def stop(self) -> None:
        """End window manager and server; programs with windows there lose them."""
        while self._children:
            self._children.pop().stop()

    def run(self, *argv: str, seconds: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a program on this screen to its end, exit code unchecked."""
        return subprocess.run(
            argv, env=self.env, capture_output=True, text=True, timeout=seconds, check=False
        )

    def xdotool(self, *arguments: str) -> str:
        """Act on the screen; returns what xdotool prints.

        Raises:
            AssertionError: xdotool failed, for example no window matched.
        """
        done = self.run("xdotool", *arguments)
        assert done.returncode == 0, f"xdotool {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def windows(self, name: str) -> list[str]:
        """Ids of visible windows whose title matches the regular expression ``name``."""
        return self.run("xdotool", "search", "--onlyvisible", "--name", name).stdout.split()

    def active_window(self) -> tuple[str, str]:
        """Id and title of the window that has the keyboard; empty for none. Much cheaper than a search."""
        asked = ("getactivewindow", "getwindowname", "getwindowgeometry", "--shell")
        name, _, shape = self.run("xdotool", *asked).stdout.partition("\nWINDOW=")
        return shape.partition("\n")[0], name

    def stays_above(self, window: str) -> bool:
        """Whether a window is kept above all others."""
        return "_NET_WM_STATE_ABOVE" in self.run("xprop", "-id", window, "_NET_WM_STATE").stdout

    def wait_for_window(self, name: str, *, seconds: float = 20) -> str:
        """The id of the visible window with that title, as soon as there is one."""
        what = f"a window named {name!r}"
        wait_until(
            lambda: bool(self.windows(name)), what, seconds=seconds, evidence=self.tree, every=LOOK_SECONDS
        )
        return self.windows(name)[0]

    def tree(self) -> str:
        """All windows with a name, for a message."""
        lines = self.run("xwininfo", "-root", "-tree").stdout.splitlines()
        return "\n".join(line for line in lines if '"' in line)

    def screenshot(self, path: Path) -> Path:
        """Save the whole screen as PNG."""
        done = self.run("import", "-window", "root", str(path))
        assert done.returncode == 0, done.stderr
        return path

    def _start(self, child: Child) -> Child:
        self._children.append(child)
        return child

    def _managed(self) -> bool:
        return "window id" in self.run("xprop", "-root", "_NET_SUPPORTING_WM_CHECK").stdout

    def _obeyed(self) -> bool:
        """Whether openbox' main loop runs. What comes before may lie unread until the display sends something more."""
        wanted = str(_DESKTOPS)
        self.run("xdotool", "set_num_desktops", wanted)
        return self.run("xdotool", "get_num_desktops").stdout.strip() == wanted

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

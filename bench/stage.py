"""Where measurements take place: the whole stack in namespaces of its own, and a screen to look at."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.page import PortalPages
from tests.support.display import VirtualDisplay
from tests.support.pcscd import PrivatePcscd
from tests.support.portal_process import Account
from tests.support.processes import wait_until
from tests.support.stack import ANY_LEVEL, Desk, Site, password

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLIENTS = re.compile(r"0x[0-9a-f]+")


@dataclass
class Stage:
    """Everything that runs.

    Attributes:
        pages: the user's session in the portal.
    """

    desk: Desk
    site: Site
    display: VirtualDisplay
    pages: PortalPages


class WindowWatch:
    """Tells when the window manager has put a new window on the screen: an event, not a poll."""

    def __init__(self, display: VirtualDisplay) -> None:
        """Begin to watch."""
        argv = ["xprop", "-spy", "-root", "_NET_CLIENT_LIST"]
        self._process = subprocess.Popen(argv, env=display.env, stdout=subprocess.PIPE, text=True)
        self._changed = threading.Condition()
        self._known: set[str] = set()
        self._new: list[tuple[str, float]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def next(self, seconds: float = 30) -> float:
        """When the next window that nobody has asked for yet appeared; waits for one.

        Raises:
            TimeoutError: none appeared.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._new), seconds):
                raise TimeoutError("a window")
            return self._new.pop(0)[1]

    def close(self) -> None:
        """Stop watching."""
        self._process.terminate()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 (a pipe was asked for)
        for line in self._process.stdout:
            now = time.perf_counter()
            there = set(_CLIENTS.findall(line))
            with self._changed:
                self._new += [(window, now) for window in there - self._known]
                self._known = there
                self._changed.notify_all()


@contextmanager
def stage() -> Iterator[Stage]:
    """Start everything; end it with the block."""
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        for name in ("pcscd", "screen", "portal", "desk"):
            (folder / name).mkdir()
        ends.enter_context(PrivatePcscd(folder / "pcscd"))
        display = ends.enter_context(VirtualDisplay(folder / "screen"))
        site = Site(folder / "portal", host="portal.test")
        user = Account("bench@example.org", "Bench user", password())
        site.prepare(user, options=ANY_LEVEL)
        ends.callback(site.portal.stop)
        site.portal.start()
        desk = Desk(folder / "desk", display.env)
        ends.callback(desk.stop)
        desk.start_keystore().start()
        desk.trust(site)
        pages = PortalPages(site)
        pages.log_in(user)
        yield Stage(desk, site, display, pages)


def pss_mib(pid: int) -> float:
    """Proportional set size of a process, MiB (proc(5), smaps_rollup)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
    assert found is not None  # noqa: S101 (the kernel writes it)
    return int(found[1]) / 1024


def press(display: VirtualDisplay, title: str, *actions: str) -> None:
    """Wait for a window in front with that title, then act on it by xdotool."""

    def in_front() -> bool:
        active = display.run("xdotool", "getactivewindow").stdout.strip()
        return bool(active) and active in display.windows(title)

    wait_until(in_front, f"a window {title!r} in front", seconds=30, evidence=display.tree)
    display.xdotool(*actions)


def own_environment() -> dict[str, str]:
    """This process's environment without what Python takes from it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

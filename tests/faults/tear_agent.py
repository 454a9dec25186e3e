"""The agent as a process of its own, for `tests.faults.tears`: ``agent.__main__.run`` itself, forked.

Journal, trust store, device key, private socket, page server, channel, and everything about orders and cards are the
agent's own, put together and started by its own composition root. In its place stands something of a test's for

- the person: no window is opened, and each question is answered by what was agreed before;
- notifications, which nobody sees;
- PC/SC's context and monitor, where the cards are simulated: `tests.support.distant_pcsc`. Over a real pcscd they are
  the agent's own, too;
- the system's key store: there is none, so the device's secret is in a file;
- the folders, among them the administrator's;
- the desktop: this machine's link handler and autostart entry stay as they are.

It is forked from a process that has imported everything (`tests.support.forks`), so it doesn't start as an interpreter
does. `tests.faults.tear_processes` has the other end of its control connection: lines of JSON, which tell what the
person types, and ask how an order ended.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import queue
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Final, TextIO

import agent.__main__ as daemon

# what the agent imports only when it needs it is there before the first fork
from agent import (  # noqa: F401
    card_care,
    card_keeper,
    card_map,
    cards,
    channel,
    keys_system,
    ordered_card,
    reader_watch,
    readers,
    server,
)
from agent.active_order import ActiveOrder
from agent.desktop import key_store_watch, session_watch  # noqa: F401
from agent.order_desk import OrderDesk, Tools
from agent.order_ports import Submission
from agent.pcsc import monitor, scard
from protocol.errors import InlayError
from tests.support import forks
from tests.support.agent_parts import folders_in
from tests.support.distant_pcsc import DistantContext, DistantMonitor
from tests.support.fake_windows import FakeNotifier, FakeWindows
from tests.support.processes import NotReadyError, wait_until
from tests.support.wired_server import OVER_PCSC

_READY: Final = "--ready-fd"
_SECONDS: Final = 40.0
SILENT: Final = "silent"
"""How an order ends that doesn't, as long as anybody waits."""


class _Desk(OrderDesk):
    """The agent's desk, which remembers what it has taken."""

    made: _Desk

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        _Desk.made = self
        self.taken: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, ActiveOrder]] = queue.SimpleQueue()

    def submit(self, submission: Submission) -> ActiveOrder:
        """See `OrderDesk.submit`."""
        active = super().submit(submission)
        self.taken.put((asyncio.get_running_loop(), active))
        return active

    def end_of_next(self) -> str:
        """How the order that is taken next ends: ``finished``, the code of an error, or `SILENT`. Blocks."""
        loop, active = self.taken.get()
        try:
            asyncio.run_coroutine_threadsafe(active.wait(), loop).result(_SECONDS)
        except InlayError as error:
            return error.code
        except TimeoutError:
            return SILENT
        return "finished"

    def settled(self) -> bool:
        """Whether nothing is left that the journal has begun; waits for it. Blocks."""
        journal = self._tools.journal.get()
        try:
            wait_until(
                lambda: not journal.unsettled() and not journal.open_claims(), "the journal", seconds=_SECONDS
            )
        except NotReadyError:
            return False
        return True


def _no_backend() -> object:
    raise keys_system.KeystoreMissing


def _put_in(home: Path, card: str, windows: FakeWindows) -> None:
    """What is a test's own, in its place."""
    stand_ins: dict[str, Any] = {
        "OrderDesk": _Desk,
        "Windows": lambda: windows,
        "DesktopNotifier": FakeNotifier,
        "user_folders": lambda: folders_in(home),
        "_check_links": lambda: None,
    }
    for name, stand_in in stand_ins.items():
        assert hasattr(daemon, name)
        setattr(daemon, name, stand_in)
    keys_system._trusted_backend = _no_backend  # type: ignore[assignment]
    # the administrator's files are a test's own, who needn't be root
    card_map.load = functools.partial(card_map.load, owner=os.geteuid())
    if card != OVER_PCSC:
        scard.Context = functools.partial(DistantContext, card)  # type: ignore[assignment,misc]
        monitor.Monitor = functools.partial(DistantMonitor, card)  # type: ignore[assignment,misc]


def run(control: socket.socket) -> None:
    """Be the agent that the first line asks for, until SIGTERM; or until nobody is at the other end any more."""
    lines = control.makefile("rw")
    asked = json.loads(lines.readline())
    os.environ.clear()
    os.environ.update(asked["environment"])
    windows = FakeWindows()
    _put_in(Path(asked["home"]), asked["card"], windows)
    _say(lines, os.getpid())
    threading.Thread(target=_follow, args=(lines, windows), daemon=True).start()
    daemon.run([_READY, str(os.dup(control.fileno()))])


def _follow(lines: TextIO, windows: FakeWindows) -> None:
    """Do what is asked, line by line."""
    try:
        for line in lines:
            _say(lines, _done(json.loads(line), windows))
    finally:
        os.kill(os.getpid(), signal.SIGKILL)  # who has started it is gone


def _done(asked: dict[str, Any], windows: FakeWindows) -> object:
    if "answers" in asked:
        windows.answers = [
            (None if known is None else known.encode(), None if fresh is None else fresh.encode())
            for known, fresh in asked["answers"]
        ]
        return None
    end = _Desk.made.end_of_next() if asked["order"] else None
    settled = end != SILENT and _Desk.made.settled()
    if not windows.opened:
        return {"end": end, "settled": settled, "asked": [], "shown": ""}
    window = windows.opened[-1]
    shown = " ".join([*window.shown[-1:], *window.texts[-1:]])
    asked_last = [prompt.warning or "" for prompt in window.asked]
    return {"end": end, "settled": settled, "asked": asked_last, "shown": shown}


def _say(lines: TextIO, what: object) -> None:
    lines.write(json.dumps(what) + "\n")
    lines.flush()


if __name__ == "__main__":
    (_path,) = sys.argv[1:]
    # the classes of this module are those of its own name, not of __main__
    from tests.faults import tear_agent

    forks.serve(_path, tear_agent.run)

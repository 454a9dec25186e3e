"""Agent or portal as they are, with a hook at every boundary of their journals that may kill one of the processes.

``python -I hook.py FOLDER agent|portal ARGUMENTS …``: ``FOLDER`` as `tests.faults.plan` has it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults.plan import Boundary, Phase, PlanFolder, Side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from types import FrameType

_DIALOGS = b"agent.desktop.dialogs"
_GONE_SECONDS = 2.0
_DETAILS = {"step": ("step", "phase"), "store_sent": ("position",), "store_received": ("position",)}


class Hook:
    """Counts boundaries, and kills at the one that is planned."""

    def __init__(self, folder: Path, side: Side) -> None:
        """Act for one side."""
        self._folder = PlanFolder(folder)
        self._side = side
        self._number = 0
        self._seen: Counter[str] = Counter()

    def begin(self, name: str) -> int:
        """A transaction of this name is about to be committed: its number; 0 without a plan."""
        plan = self._folder.read()
        if plan is None:
            return 0
        if plan.number != self._number:
            self._number, self._seen = plan.number, Counter()
        self._seen[name] += 1
        return self._seen[name]

    def reach(self, name: str, nth: int, phase: Phase) -> None:
        """A boundary: kill, where that is planned."""
        plan = self._folder.read() if nth else None
        if plan is None or plan.number != self._number:
            return
        here = Boundary(self._side, name, nth, phase)
        self._folder.passed(here)
        if here != plan.at:
            return
        pid = window_of(plan.pids["agent"]) if plan.victim == "window" else plan.pids[plan.victim]
        if self._folder.say_fired(pid) and pid:
            os.kill(pid, signal.SIGKILL)
            _wait_gone(pid)


def window_of(agent: int) -> int:
    """Process id of the window that an agent has open; 0 when there is none."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{agent}/task").iterdir():
            for child in (task / "children").read_text().split():
                with contextlib.suppress(OSError):
                    if _DIALOGS in Path(f"/proc/{child}/cmdline").read_bytes():
                        return int(child)
    return 0


def _wait_gone(pid: int) -> None:
    """Nothing more happens here before the other process has ended."""
    until = time.monotonic() + _GONE_SECONDS
    with contextlib.suppress(OSError):
        while time.monotonic() < until:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return
            time.sleep(0.001)


def _name(frame: FrameType) -> str:
    """What an agent's journal is writing, by the method that writes it."""
    method = frame.f_code.co_name
    found = [method]
    for variable in _DETAILS.get(method, ()):
        value = frame.f_locals[variable]
        # a step may end with what is this card's alone; its first two words are every card's
        found.append(str(value.stage) if variable == "position" else " ".join(str(value).split()[:2]))
    return " ".join(found)


def hook_agent(hook: Hook) -> None:
    """Put the hook around every transaction of the agent's journal."""
    from agent.journal import Journal

    original: Any = Journal._transaction

    @contextlib.contextmanager
    def hooked(journal: Journal, name: str) -> Iterator[Any]:
        nth = hook.begin(name)
        with original(journal) as db:
            yield db
            hook.reach(name, nth, "before")
        hook.reach(name, nth, "after")

    def transaction(journal: Journal) -> AbstractContextManager[Any]:
        return hooked(journal, _name(sys._getframe(1)))

    Journal._transaction = transaction  # type: ignore[method-assign, assignment]


def hook_portal(hook: Hook) -> None:
    """Put the hook around every writing transaction of the portal's database."""
    from portal.store.database import Database

    original: Any = Database.write

    @contextlib.asynccontextmanager
    async def hooked(database: Database, name: str) -> AsyncIterator[Any]:
        async with original(database) as tx:
            yield tx
            nth = hook.begin(name)
            hook.reach(name, nth, "before")
        hook.reach(name, nth, "after")

    def write(database: Database) -> AbstractAsyncContextManager[Any]:
        return hooked(database, sys._getframe(1).f_code.co_qualname)

    Database.write = write  # type: ignore[method-assign, assignment]


def main() -> int:
    """Become agent or portal."""
    folder, side, *arguments = sys.argv[1:]
    if side == "agent":
        hook_agent(Hook(Path(folder), "agent"))
        from agent.__main__ import run

        return run(arguments)
    hook_portal(Hook(Path(folder), "portal"))
    from portal.__main__ import main as serve

    return serve(arguments)


if __name__ == "__main__":
    sys.exit(main())

"""The portal as it is, made to fail at a step: forked from here for each start, so that starting again is quick.

``python -I crash_portal.py FOLDER CONFIG FD``: ``FOLDER`` as `tests.faults.crash_plan` has it; on the socket ``FD``
come lines: ``serve`` (answer: the process id, and ``up``), ``reconcile SECONDS`` (answer: its exit status; its clock
runs that much ahead), ``gone PID`` (answer once that process has ended).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import signal
import socket
import sqlite3
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

sys.path.insert(0, str(Path(__file__).parents[2]))

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

import portal.__main__ as command
from portal import app
from portal.ca.authority import CaRefusedError, CaUnavailableError
from portal.ca.builtin import BuiltinCa
from portal.clock import system_clock
from portal.processes.context import Context
from portal.store.database import Database
from tests.faults.crash_plan import ISSUE, RELEASE, CrashFolder, Phase, Point

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.ca.authority import IssueRequest

_PR_SET_PDEATHSIG: Final = 1
CA_SECONDS: Final = 1.0
_LATE_SECONDS: Final = 1.5
T = TypeVar("T")


class Hook:
    """Counts steps, and fails at the one that is planned."""

    def __init__(self, folder: Path) -> None:
        """Read plans from a folder."""
        self.folder = CrashFolder(folder)
        self._number = 0
        self._seen: Counter[str] = Counter()

    def begin(self, name: str) -> int:
        """A step of this name begins: its number; 0 without a plan."""
        plan = self.folder.read()
        if plan is None:
            return 0
        if plan.number != self._number:
            self._number, self._seen = plan.number, Counter()
        self._seen[name] += 1
        return self._seen[name]

    def reach(self, name: str, nth: int, phase: Phase) -> str | None:
        """What is planned for this step; None for nothing. Death comes here."""
        plan = self.folder.read() if nth else None
        if plan is None or plan.number != self._number:
            return None
        here = Point(name, nth, phase)
        self.folder.passed(here)
        if here != plan.at or not self.folder.fire():
            return None
        if plan.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return plan.fault


def hook_database(hook: Hook) -> None:
    """Put the hook around every writing transaction."""
    original: Any = Database.write

    @contextlib.asynccontextmanager
    async def hooked(database: Database, name: str) -> AsyncIterator[AsyncSession]:
        nth = hook.begin(name)
        async with original(database) as tx:
            yield tx
            await tx.flush()
            if hook.reach(name, nth, "before") == "cut":
                await _cut(database, tx)
        if hook.reach(name, nth, "after") == "cut":
            raise _lost("the commit's answer was lost")

    def write(database: Database) -> AbstractAsyncContextManager[AsyncSession]:
        return hooked(database, sys._getframe(1).f_code.co_qualname)

    Database.write = write  # type: ignore[method-assign, assignment]


async def _cut(database: Database, tx: AsyncSession) -> None:
    """End the transaction's connection; SQLite has none to cut, its disk fails instead."""
    if database.url.get_backend_name() == "postgresql":
        await tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    raise _lost("disk I/O error")


def _lost(what: str) -> OperationalError:
    return OperationalError("COMMIT", None, sqlite3.OperationalError(what))


class FaultyCa(BuiltinCa):
    """The built-in CA, whose answers the plan chooses. What it has signed stays signed."""

    hook: Hook

    async def issue(self, request: IssueRequest) -> bytes:
        """As planned."""
        issue = super().issue
        return await self._answer(ISSUE, lambda: issue(request))

    async def release(self, serial: str) -> None:
        """As planned."""
        release = super().release
        await self._answer(RELEASE, lambda: release(serial))

    async def _answer(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        match self.hook.reach(name, self.hook.begin(name), "before"):
            case "refuse":
                raise CaRefusedError("policy")
            case "hang":
                await asyncio.Event().wait()
            case "late":
                _later(self.hook, work)
                await asyncio.Event().wait()
            case "twice":
                await work()
            case "lose":
                await work()
                raise CaUnavailableError
            case _:
                pass
        return await work()


_LATE: set[asyncio.Task[None]] = set()


def _later(hook: Hook, work: Callable[[], Awaitable[object]]) -> None:
    async def run() -> None:
        await asyncio.sleep(_LATE_SECONDS)  # longer than the portal waits
        await work()
        hook.folder.say_late()

    task = asyncio.create_task(run())
    _LATE.add(task)
    task.add_done_callback(_LATE.discard)


def _serve(config: str, control: socket.socket) -> int:
    say = command._say

    def announced(text: str) -> None:
        say(text)
        sys.stdout.flush()
        if " is running: " in text:
            control.sendall(b"up\n")

    command._say = announced
    return command.main(["--config", config, "serve"])


def _reconcile(config: str, ahead: int) -> int:
    defaults: dict[str, Any] = app.Portal.__init__.__kwdefaults__ or {}
    defaults["clock"] = lambda: system_clock() + ahead
    return command.main(["--config", config, "reconcile"])


def _forked(work: Callable[[], int]) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(
            _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0
        )  # a portal ends with what forked it
        try:
            os._exit(work())
        finally:
            os._exit(70)
    return pid


def main() -> int:
    """Fork portals until the socket is closed."""
    folder, config, descriptor = sys.argv[1:]
    hook = Hook(Path(folder))
    hook_database(hook)
    FaultyCa.hook = hook
    vars(app)["BuiltinCa"] = FaultyCa
    vars(app)["Context"] = functools.partial(Context, ca_seconds=CA_SECONDS)
    control = socket.socket(fileno=int(descriptor))
    with control, control.makefile("r") as lines:
        for line in lines:
            what, *rest = line.split()
            match what:
                case "serve":
                    answer = str(_forked(lambda: _serve(config, control)))
                case "reconcile":
                    ahead = int(rest[0])
                    pid = _forked(lambda: _reconcile(config, ahead))  # noqa: B023 - called at once
                    answer = str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                case _:
                    os.waitpid(int(rest[0]), 0)
                    answer = "gone"
            control.sendall(answer.encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Agents as processes, from the side of who starts, disturbs and judges them; see `tests.faults.tear_agent`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, Self

from protocol import link
from tests.faults.tear_jobs import KILLED, Answers
from tests.support import forks
from tests.support.processes import Child

_SECONDS: Final = 60.0
_START_SECONDS: Final = 60.0


class Ended(NamedTuple):
    """How an order ended for its agent.

    Attributes:
        end: ``finished``, the code of an error, or `KILLED`, for all that anybody knows; with what was shown last
            where it is silent or wasn't settled.
        asked: the warnings of each question that its window asked, "" where one had none.
    """

    end: str
    asked: tuple[str, ...] = ()


class RunningAgent(Protocol):
    """An agent that runs."""

    async def order(self, portal: str, code: str, answers: Answers) -> Ended:
        """Carry out the order behind a code; its person types ``answers``. Everything is settled then."""

    async def settle(self) -> bool:
        """Wait until nothing is left of what earlier runs had begun; whether it came to that."""

    def kill(self) -> None:
        """At once, as by SIGKILL. May be called from any thread."""


class AgentProcess:
    """See `RunningAgent`; made by `AgentForks.running`."""

    def __init__(
        self, pid: int, socket_: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = os.pidfd_open(pid)  # the number itself may be another process' one day
        self._socket, self._reader, self._writer = socket_, reader, writer

    async def order(self, portal: str, code: str, answers: Answers) -> Ended:
        """See `RunningAgent.order`. The code comes as from ``inlay open``."""
        texts = [[None if text is None else text.decode() for text in pair] for pair in answers]
        await self._asked({"answers": texts})
        request = {"link": link.build(portal, code), "environment": {"DISPLAY": ":9"}}
        answer = await asyncio.to_thread(self._open, {"method": "open", "params": request})
        assert answer == {"result": {"accepted": True}}, answer
        try:
            ended = await self._asked({"order": True})
        except EOFError:
            await self._gone()
            return Ended(KILLED)
        end = ended["end"] if ended["settled"] else f"{ended['end']}, not settled, at {ended['shown']}"
        return Ended(end, tuple(ended["asked"]))

    async def settle(self) -> bool:
        """See `RunningAgent.settle`."""
        return bool((await self._asked({"order": False}))["settled"])

    def kill(self) -> None:
        """See `RunningAgent.kill`."""
        signal.pidfd_send_signal(self._process, signal.SIGKILL)

    async def end(self) -> None:
        """End it as the end of a session does, and wait for it; harmless when it is gone."""
        try:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGTERM)
            await self._gone()
        finally:
            self._writer.close()
            os.close(self._process)

    def _open(self, request: dict[str, Any]) -> Any:
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rw") as lines:
            connection.settimeout(_SECONDS)
            connection.connect(str(self._socket))
            lines.write(json.dumps(request) + "\n")
            lines.flush()
            return json.loads(lines.readline())

    async def _asked(self, what: dict[str, Any]) -> Any:
        """What it answers.

        Raises:
            EOFError: it is gone.
        """
        self._writer.write(json.dumps(what).encode() + b"\n")
        async with asyncio.timeout(_SECONDS):
            try:
                line = await self._reader.readline()
            except ConnectionError:
                line = b""
        if not line:
            raise EOFError
        return json.loads(line)

    async def _gone(self) -> None:
        """Until the process is no more, and with it its locks."""
        loop = asyncio.get_running_loop()
        gone = loop.create_future()
        loop.add_reader(self._process, lambda: None if gone.done() else gone.set_result(None))
        try:
            async with asyncio.timeout(_SECONDS):
                await gone
        finally:
            loop.remove_reader(self._process)


class AgentForks:
    """Starts agents, while the ``with`` block runs; enter it in a thread that stays, where no event loop waits.

    The paths of sockets are bounded: theirs are in a short folder of their own.
    """

    def __init__(self, folder: Path) -> None:
        """``folder`` gets what the agents say at their end where that isn't foreseen."""
        self._log = folder / "agents.log"
        self._number = 0

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="torn-"))
        self._path = self._folder / "forks"
        argv = [sys.executable, "-m", "tests.faults.tear_agent", str(self._path)]
        self._server = Child(argv, log=self._log)
        self._server.wait_until(lambda: forks.is_there(self._path), "the agents", seconds=_START_SECONDS)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.stop()
        shutil.rmtree(self._folder)

    @contextlib.asynccontextmanager
    async def running(
        self, home: Path, card: str, more: Mapping[str, str] | None = None
    ) -> AsyncIterator[AgentProcess]:
        """An agent on these folders, whose card is at this path; or ``tests.support.wired_server.OVER_PCSC``.

        ``more`` is added to its environment.
        """
        self._number += 1
        runtime = self._folder / f"run-{self._number}"
        runtime.mkdir(mode=0o700)
        agent = await self._start(home, card, runtime, more or {})
        try:
            yield agent
        finally:
            await agent.end()
            shutil.rmtree(runtime)

    async def _start(self, home: Path, card: str, runtime: Path, more: Mapping[str, str]) -> AgentProcess:
        environment = {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(runtime),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            **more,
        }
        reader, writer = await asyncio.open_unix_connection(str(self._path))
        asked = {"environment": environment, "home": str(home), "card": card}
        writer.write(json.dumps(asked).encode() + b"\n")
        async with asyncio.timeout(_SECONDS):
            pid = int(await reader.readline())
            agent = AgentProcess(pid, runtime / "inlay" / "agent.sock", reader, writer)
            assert await reader.readexactly(len(b"ready")) == b"ready", self._server.output()
        return agent

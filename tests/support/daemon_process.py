"""The agent as a process of its own, asked as its commands ask it, on a terminal that a test types into."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

READY_SECONDS = 20.0
PIN = b"Zq7-91xK"
_LASTING = ThreadPoolExecutor(1)
"""A child ends with the thread that started it (PR_SET_PDEATHSIG): this one lasts as long as the test run."""


class DaemonProcess:
    """A running daemon with folders of its own.

    Attributes:
        home: its home; XDG folders lie in it.
    """

    def __init__(
        self,
        folder: Path,
        program: Sequence[str] = ("-m", "agent"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Make the folders; ``program`` is what Python runs as the agent, with this added to its environment."""
        self._program = list(program)
        self._environment = dict(environment or {})
        self.home = folder / "home"
        self.runtime = folder / "run"
        self.home.mkdir(parents=True, exist_ok=True)
        self.runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._log = folder / "daemon.out"
        self._child: Child | None = None

    @property
    def state(self) -> Path:
        return self.home / ".local/state/inlay"

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def start(self) -> Self:
        """Start it, and wait until it listens."""
        ready, told = os.pipe()
        environment = {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            **self._environment,
        }
        argv = [sys.executable, "-I", *self._program, "--ready-fd", str(told)]
        self._child = Child(argv, log=self._log, env=environment, pass_fds=(told,))
        os.close(told)
        try:
            assert select.select([ready], [], [], READY_SECONDS)[0], "the daemon doesn't get ready"
            assert os.read(ready, 16) == b"ready", self.output()
        finally:
            os.close(ready)
        return self

    async def start_again(self) -> None:
        """Start it while the test's portal answers."""
        await asyncio.get_running_loop().run_in_executor(_LASTING, self.start)

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def log(self) -> str:
        path = self.state / "log/agent.log"
        return path.read_text() if path.exists() else ""

    def kill(self) -> None:
        """As a crash or a power cut would."""
        assert self._child is not None
        self._child.kill()

    def stop(self) -> int:
        """As the session's end would; the exit status."""
        assert self._child is not None
        return self._child.stop()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait for its end."""
        assert self._child is not None
        return await asyncio.to_thread(self._child.process.wait, 15)

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(30)
        connection.connect(str(self.runtime / "inlay/agent.sock"))
        return connection

    def ask_now(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """One request, one answer."""
        with self.connect() as connection:
            connection.sendall(json.dumps({"method": method, "params": params}).encode() + b"\n")
            return _line(connection)

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The same, while the test's portal answers."""
        return await asyncio.to_thread(self.ask_now, method, params)

    async def trust(self, origin: str, ca_file: Path) -> None:
        """Trust a portal, while the test's portal answers."""
        await asyncio.to_thread(self.trust_now, origin, ca_file)

    def trust_now(self, origin: str, ca_file: Path) -> None:
        """Trust a portal, as `inlay trust add` does it."""
        params = {"url": origin, "ca_file": str(ca_file)}
        found = self.ask_now("trust.add", params)
        confirmed = {**params, "fingerprint": found["result"]["fingerprint"]}
        assert "result" in self.ask_now("trust.confirm", confirmed)

    def card_files(self) -> list[Path]:
        return sorted((self.state / "cards").rglob("*.card"))

    def everything_written(self) -> bytes:
        files = [path for path in sorted(self.home.rglob("*")) if path.is_file()]
        return b"\n".join(path.read_bytes() for path in files) + self.output().encode()


class TerminalOrder:
    """`inlay open` on a terminal: the link goes out with a terminal's descriptor, a test types into it."""

    def __init__(self, agent: DaemonProcess, link: str) -> None:
        self._master, slave = os.openpty()
        self._connection = agent.connect()
        request = {"method": "open", "params": {"link": link, "environment": {}}}
        line = json.dumps(request).encode() + b"\n"
        socket.send_fds(self._connection, [line], [slave])
        os.close(slave)
        self.seen = b""

    async def begin(self) -> None:
        """The agent has taken the link, and wants the terminal."""
        assert await asyncio.to_thread(_line, self._connection) == {"result": {"hold": True}}

    async def until(self, text: bytes) -> None:
        """Wait until the terminal shows something."""
        await asyncio.to_thread(self._read_until, text)

    async def type_pin(self, pin: bytes = PIN) -> None:
        for question in (b"New PIN:", b"again:"):
            await self.answer(question, pin)

    async def answer(self, question: bytes, text: bytes) -> None:
        """Wait for a question, and type a line."""
        await self.until(question)
        self.type(text)

    def type(self, text: bytes) -> None:
        """Type a line."""
        os.write(self._master, text + b"\n")

    async def answer_all(self, answers: Mapping[bytes, bytes]) -> dict[str, Any]:
        """Answer each of these questions whenever it is asked, until the agent's last word."""
        answer = await asyncio.to_thread(self._answer_until_the_end, answers)
        self.close()
        return answer

    async def end(self) -> dict[str, Any]:
        """The agent's last word."""
        answer = await asyncio.to_thread(_line, self._connection)
        self.close()
        return answer

    def close(self) -> None:
        """The command ends (Ctrl-C)."""
        self._connection.close()
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def _read_until(self, text: bytes) -> None:
        while text not in self.seen:
            assert select.select([self._master], [], [], 20)[0], self.seen
            self.seen += os.read(self._master, 4096)
        self.seen = self.seen.partition(text)[2]

    def _answer_until_the_end(self, answers: Mapping[bytes, bytes]) -> dict[str, Any]:
        open_: list[Any] = [self._master, self._connection]
        while True:
            for question, text in answers.items():
                if question in self.seen:
                    self.seen = self.seen.partition(question)[2]
                    self.type(text)
            ready = select.select(open_, [], [], 60)[0]
            assert ready, self.seen
            if self._master in ready:
                try:
                    self.seen += os.read(self._master, 4096)
                except OSError:  # the agent has closed its end of the terminal
                    open_.remove(self._master)
            elif self._connection in ready:
                return _line(self._connection)


def _line(connection: socket.socket) -> dict[str, Any]:
    found = b""
    while not found.endswith(b"\n"):
        piece = connection.recv(1)
        if not piece:
            raise EOFError(found)
        found += piece
    decoded: dict[str, Any] = json.loads(found)
    return decoded

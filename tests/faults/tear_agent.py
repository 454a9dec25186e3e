"""The agent's core as a process of its own, for `tests.faults.tears`: one order, or what the last run has left.

Readers and window are a test's; journal, trust store, device key, channel and everything about the card are the agent's
own. The card is at the other end of a socket, in the process that kills this one.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Final

from agent import keys_system
from agent.order_ports import Submission
from agent.ordered_card import CardReaders
from agent.pcsc.connection import CardConnection
from agent.pcsc.look import Evidence, look
from agent.pcsc.reader_events import Look, ReaderLook
from agent.ports import UserEnvironment
from agent.reader_watch import ReaderWatch
from protocol.errors import InlayError
from protocol.messages import Transport
from tests.cards.simulated import ATR
from tests.support.agent_parts import PcscReadersOfATest, running_agent
from tests.support.processes import wait_until
from tests.support.wired_server import OVER_PCSC

READER: Final = "One"


class _Link:
    """A connection to the card; see ``agent.pcsc.connection.Link``."""

    def __init__(self, path: str, purpose: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._stream = self._socket.makefile("rw")
        self._ask(purpose)

    def transmit(self, apdu: bytes) -> bytes:
        return bytes.fromhex(self._ask(apdu.hex()))

    def begin(self) -> None:
        """Nobody else is there."""

    def end(self, *, reset: bool) -> None:
        if reset:
            self._ask("reset")

    def reconnect(self) -> None:
        """Nothing was lost."""

    def atr(self) -> bytes:
        return ATR

    def ask_reader(self, function: int) -> bytes:
        raise InlayError("pcsc_failed", cause=f"function {function}")

    def control(self, code: int, data: bytes) -> bytes:
        raise InlayError("pcsc_failed", cause=f"code {code}")

    def close(self, *, reset: bool = False) -> None:
        if reset:
            self._ask("reset")
        self._socket.close()

    def _ask(self, line: str) -> str:
        self._stream.write(line + "\n")
        self._stream.flush()
        return self._stream.readline().strip()


class _Readers:
    """One reader; the card stays in it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def card_readers(self, machine: Path) -> CardReaders:
        def look_at(reader: str, aids: frozenset[bytes], features: frozenset[str]) -> Evidence:
            with CardConnection(_Link(self._path, "look"), reader) as card:
                return look(card, aids, features)

        def connect(reader: str) -> CardConnection:
            return CardConnection(_Link(self._path, "session"), reader)

        return CardReaders(ReaderWatch(_Monitor), machine, look=look_at, connect=connect, count=None)


class _Monitor:
    """See ``agent.reader_watch.ReaderMonitor``."""

    def __init__(self, tell: object) -> None:
        self._tell = tell

    def start(self) -> None:
        self._tell(Look(None, (ReaderLook(READER, True, ATR, 1),)))  # type: ignore[operator]

    def stop(self) -> None:
        """It tells nothing more."""


def _no_backend() -> object:
    raise keys_system.KeystoreMissing


async def main(home: Path, card: str, portal: str, code: str, answers: list[list[str | None]]) -> int:
    """Carry out the order behind a code, or without one bring to its end what is left; 0 when it is finished."""
    keys_system._trusted_backend = _no_backend  # type: ignore[assignment]
    readers = PcscReadersOfATest() if card == OVER_PCSC else _Readers(card)
    async with running_agent(home, readers) as agent:
        agent.windows.answers = [
            (None if known is None else known.encode(), None if fresh is None else fresh.encode())
            for known, fresh in answers
        ]
        if not code:
            await agent.desk.resume()
            journal = agent.journal.get()
            await asyncio.to_thread(wait_until, lambda: not journal.unsettled(), "everything to be settled")
            return 0
        environment = UserEnvironment({"DISPLAY": ":9"})
        try:
            await agent.desk.submit(Submission(portal, code, Transport.LINK, environment)).wait()
        except InlayError as error:
            sys.stderr.write(f"{error.code}\n")
            return 1
    return 0


if __name__ == "__main__":
    _home, _card, _portal, _code, _answers = sys.argv[1:]
    raise SystemExit(asyncio.run(main(Path(_home), _card, _portal, _code, json.loads(_answers))))

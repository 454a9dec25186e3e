"""PC/SC of an agent whose readers are another process' `tests.support.card_server`: context, connection and monitor.

They stand in the places of ``agent.pcsc.scard.Context`` and ``agent.pcsc.monitor.Monitor``; everything above those is
the agent's own.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from typing import Final, Self

from agent.pcsc.reader_events import Look, ReaderLook
from protocol.errors import InlayError
from tests.cards.simulated import ATR

_LOOKING: Final = "look"
"""Name of the agent's threads that look at cards, see ``agent.card_search``; sessions have others."""


class DistantContext:
    """A context; see ``agent.pcsc.scard.Context``."""

    def __init__(self, path: str) -> None:
        self._path = path

    @property
    def valid(self) -> bool:
        return True

    def event_count(self, reader: str) -> int | None:
        with _Conversation(self._path) as asking:
            count = asking.ask(f"count {reader}")
        return None if count == "-" else int(count)

    def connect(self, reader: str, *, owned: bool = False) -> DistantConnection:
        looking = threading.current_thread().name == _LOOKING
        return DistantConnection(_Conversation(self._path), f"{'look' if looking else 'session'} {reader}")

    def close(self) -> None:
        """It holds nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class DistantConnection:
    """A connection to a card; see ``agent.pcsc.scard.Connection``."""

    def __init__(self, conversation: _Conversation, purpose: str) -> None:
        self._conversation = conversation
        try:
            conversation.ask(purpose)
        except BaseException:
            conversation.close()
            raise

    def transmit(self, apdu: bytes) -> bytes:
        return bytes.fromhex(self._conversation.ask(apdu.hex()))

    def begin(self) -> None:
        self._conversation.ask("begin")

    def end(self, *, reset: bool) -> bool:
        self._at_last("end", reset=reset)
        return True

    def reconnect(self) -> None:
        self._conversation.ask("reconnect")

    def atr(self) -> bytes:
        return ATR

    def ask_reader(self, function: int) -> bytes:
        raise InlayError("pcsc_failed", cause=f"function {function}")

    def control(self, code: int, data: bytes) -> bytes:
        raise InlayError("pcsc_failed", cause=f"code {code}")

    def close(self, *, reset: bool = False) -> None:
        self._at_last("close", reset=reset)
        self._conversation.close()

    def _at_last(self, what: str, *, reset: bool) -> None:
        with contextlib.suppress(InlayError):  # harmless when card or service have gone
            self._conversation.ask(f"{what} reset" if reset else what)


class DistantMonitor:
    """Tells of readers and cards as they come and go; see ``agent.reader_watch.ReaderMonitor``."""

    def __init__(self, path: str, tell: Callable[[Look], None]) -> None:
        self._path, self._tell = path, tell
        self._thread = threading.Thread(target=self._run, name="readers", daemon=True)

    def start(self) -> None:
        self._conversation = _Conversation(self._path)
        self._conversation.ask("watch")
        self._thread.start()

    def stop(self) -> None:
        self._conversation.end()
        self._thread.join()
        self._conversation.close()

    def _run(self) -> None:
        while line := self._conversation.next_line():
            problem, rows = json.loads(line)
            readers = (ReaderLook(name, here, bytes.fromhex(atr), count) for name, here, atr, count in rows)
            self._tell(Look(problem, tuple(readers)))


class _Conversation:
    """A connection to the server: a line out, a line in."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise InlayError("pcsc_no_service") from None
        self._stream = self._socket.makefile("rw")

    def ask(self, line: str) -> str:
        """Say something; what is answered.

        Raises:
            InlayError: what is answered, or ``pcsc_no_service``: nothing is.
        """
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except OSError:
            raise InlayError("pcsc_no_service") from None
        answer = self.next_line()
        if not answer:
            raise InlayError("pcsc_no_service")
        if answer.startswith("!"):
            raise InlayError(answer[1:].strip())
        return answer.strip()

    def next_line(self) -> str:
        """What comes next; empty when nothing does any more."""
        try:
            return self._stream.readline()
        except OSError:
            return ""

    def end(self) -> None:
        """Nothing comes any more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

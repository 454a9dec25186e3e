"""Simulated readers at a Unix socket, for an agent that is a process of its own: the cards stay when it is killed.

The other end is `tests.support.distant_pcsc`. A connection's first line says what it is for, and is answered by an
empty line or by ``!`` and the code of an error:

- ``watch``: from then on every look at the readers comes, a line of JSON each, as soon as it is another one;
- ``count READER``: PC/SC's count of the reader's events in place of the empty line, ``-`` where it has no card;
- ``look READER``, ``session READER``: a connection to the card. Then a line is an APDU in hexadecimal, or ``begin``,
  ``end``, ``end reset``, ``reconnect``, ``close`` or ``close reset``, and is answered by what the card answers.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import tempfile
import threading
from typing import TYPE_CHECKING, Self, TextIO

from protocol.errors import InlayError
from tests.support.simulated_readers import SimulatedReaders

if TYPE_CHECKING:
    from agent.pcsc.reader_events import Look
    from tests.cards.simulated import SimulatedLink


class CardServer:
    """Serves the readers while the ``with`` block runs.

    What `SimulatedReaders.tear` and `SimulatedReaders.answered` raise as a ``ConnectionAbortedError`` ends the
    connection without an answer.

    Attributes:
        path: the socket's; bounded, so it is in a folder of its own with a short path.
    """

    def __init__(self, readers: SimulatedReaders) -> None:
        self._readers = readers
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._served: list[tuple[threading.Thread, socket.socket]] = []

    def __enter__(self) -> Self:
        self._folder = tempfile.mkdtemp(prefix="card-")
        self.path = f"{self._folder}/socket"
        self._listener.bind(self.path)
        self._listener.listen()
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        for thread, peer in self._served:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
            thread.join()
        shutil.rmtree(self._folder)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(peer,))
            self._served.append((thread, peer))
            thread.start()

    def _serve(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError), peer.makefile("rw") as stream:
            try:
                self._begin(stream.readline().rstrip("\n"), peer, stream)
            except InlayError as error:
                _answer(stream, f"!{error.code}")

    def _begin(self, said: str, peer: socket.socket, stream: TextIO) -> None:
        purpose, _, reader = said.partition(" ")
        match purpose:
            case "watch":
                self._watch(peer, stream)
            case "count":
                count = self._readers.insertions.get(reader)
                _answer(stream, "-" if count is None else str(count))
            case "look" | "session":
                with self._lock:
                    link = self._readers.link(reader, looking=purpose == "look")
                _answer(stream, "")
                self._converse(stream, link)
            case _:
                return

    def _watch(self, peer: socket.socket, stream: TextIO) -> None:
        def tell(look: Look) -> None:
            rows = [(row.name, row.present, row.atr.hex(), row.count) for row in look.readers]
            with contextlib.suppress(OSError):  # who has watched is gone
                peer.sendall(json.dumps([look.problem, rows]).encode() + b"\n")

        with self._lock:
            _answer(stream, "")
            self._readers.monitor(tell).start()
        stream.read()  # until who watches goes

    def _converse(self, stream: TextIO, link: SimulatedLink) -> None:
        closed = False
        try:
            for line in stream:
                with self._lock:
                    answer = _carried_out(link, line.strip())
                closed = line.startswith("close")
                _answer(stream, answer)
        finally:
            if not closed:
                with self._lock:
                    link.close(reset=True)  # pcscd resets the card of a client that is gone


def _answer(stream: TextIO, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()


def _carried_out(link: SimulatedLink, said: str) -> str:
    try:
        match said:
            case "begin":
                link.begin()
            case "end" | "end reset":
                link.end(reset=said.endswith("reset"))
            case "reconnect":
                link.reconnect()
            case "close" | "close reset":
                link.close(reset=said.endswith("reset"))
            case _:
                return link.transmit(bytes.fromhex(said)).hex()
    except InlayError as error:
        return f"!{error.code}"
    return ""

"""A simulated card at a Unix socket, for an agent that is a process of its own: it stays when that is killed."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.cards.simulated import SimulatedCard


class CardServer:
    """Serves while the ``with`` block runs. A line is ``look``, ``session``, ``reset`` or an APDU in hexadecimal.

    Attributes:
        path: the socket's.
        disturb: told of each APDU of sessions, by its number from 1 since `disturb` was set, ``before`` and ``after``;
            what it says yes to before doesn't reach the card.
    """

    def __init__(self, card: SimulatedCard, path: Path) -> None:
        self.path = str(path)
        self._card = card
        self._count = 0
        self._disturb: Callable[[int, str], bool] = lambda _number, _side: False
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._threads: list[threading.Thread] = []

    @property
    def disturb(self) -> Callable[[int, str], bool]:
        """Who is told."""
        return self._disturb

    @disturb.setter
    def disturb(self, told: Callable[[int, str], bool]) -> None:
        self._count, self._disturb = 0, told

    def __enter__(self) -> Self:
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
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(peer,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: socket.socket) -> None:
        watched = False
        with peer, contextlib.suppress(OSError), peer.makefile("rw") as stream:
            for line in stream:
                with self._lock:
                    answer, watched = self._answer(line.strip(), watched=watched)
                stream.write(answer + "\n")
                stream.flush()
        with self._lock:
            self._card.reset()  # pcscd resets the card of a client that is gone

    def _answer(self, line: str, *, watched: bool) -> tuple[str, bool]:
        match line:
            case "look" | "session":
                return "", line == "session"
            case "reset":
                self._card.reset()
                return "", watched
            case _:
                pass
        if not watched:
            return self._card.transmit(bytes.fromhex(line)).hex(), False
        self._count += 1
        number = self._count
        if self._disturb(number, "before"):
            raise ConnectionAbortedError
        answer = self._card.transmit(bytes.fromhex(line))
        self._disturb(number, "after")
        return answer.hex(), True

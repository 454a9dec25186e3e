"""A simulated card in a slot of vpcd: what it answers is a function, and it can be torn out by it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import BinaryIO

from tests.cards.simulated import SimulatedCard
from tests.support import vpcd_slots
from tests.support.dummy_card import ATR

_RESETTING = (b"\x00", b"\x01", b"\x02")


class WiredCard:
    """A simulated card in a slot of vpcd while the ``with`` block runs, put in when the slot is empty.

    Attributes:
        answer: what answers each APDU; None tears the card out instead.
    """

    def __init__(
        self,
        port: int,
        answer: Callable[[bytes], bytes | None],
        atr: bytes = ATR,
        *,
        reset: Callable[[], None] = lambda: None,
    ) -> None:
        self._port, self._atr = port, atr
        self.answer = answer
        self._reset = reset

    @classmethod
    def simulated(cls, port: int, card: SimulatedCard) -> WiredCard:
        return cls(port, card.transmit, reset=card.reset)

    def __enter__(self) -> WiredCard:
        vpcd_slots.before_card(self._port)
        self._socket = socket.create_connection(("127.0.0.1", self._port))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        vpcd_slots.after_card(self._port)

    def _read(self, stream: BinaryIO, size: int) -> bytes:
        """Read with delayed acknowledgements off: vpcd sends length and message apart, and waits between them."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return stream.read(size)

    def _serve(self) -> None:
        with contextlib.suppress(OSError, struct.error), self._socket.makefile("rb") as stream:
            while header := self._read(stream, 2):
                message = self._read(stream, *struct.unpack(">H", header))
                if message in _RESETTING:
                    self._reset()
                    continue
                answer = self._atr if message == b"\x04" else self.answer(message)
                if answer is None:
                    self._socket.shutdown(socket.SHUT_RDWR)
                    return
                self._socket.sendall(struct.pack(">H", len(answer)) + answer)

"""The least a card must do to be seen in a virtual reader: answer vpcd's question for the ATR."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Self

from tests.support import vpcd_slots

ATR = bytes.fromhex("3B8B800180F9A00000030800001000C8")

_ATR_WANTED = b"\x04"
_CONTROL_LENGTH = 1


class DummyCard:
    """A card in one slot while the ``with`` block runs; every APDU gets ``6D00``."""

    def __init__(self, port: int) -> None:
        """Prepare a card for vpcd's ``port`` on 127.0.0.1."""
        self._port = port
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Insert the card as soon as the slot is empty."""
        vpcd_slots.before_card(self._port)
        self._socket = socket.create_connection(("127.0.0.1", self._port))
        self._thread = threading.Thread(target=self._serve, args=(self._socket,))
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Remove the card."""
        if self._socket is not None and self._thread is not None:
            with contextlib.suppress(OSError):  # vpcd may have gone first
                self._socket.shutdown(socket.SHUT_RDWR)
            self._thread.join()
            self._socket.close()
            vpcd_slots.after_card(self._port)

    @staticmethod
    def _serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection.makefile("rb") as stream:
            while header := stream.read(2):
                message = stream.read(*struct.unpack(">H", header))
                if len(message) == _CONTROL_LENGTH and message != _ATR_WANTED:
                    continue  # power off, power on and reset have no answer
                answer = ATR if message == _ATR_WANTED else b"\x6d\x00"
                connection.sendall(struct.pack(">H", len(answer)) + answer)

"""A reader with a PIN pad, in pcscd: a driver built from C asks this process for everything.

The person at the pad is a list of entries. What the host has written into its structures is read here by the table of
PC/SC part 10 (2.5.2, 2.5.3), by no code of the product, and the PIN is put into the command as a pad does it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from agent.vsc.card import ATR, VirtualCard
from tests.support.pcscd import PrivatePcscd

SOURCE: Final = Path(__file__).with_name("pin_pad_driver.c")
READER: Final = "Test PIN pad 00 00"
_CONFIGURATION: Final = Path("/etc/reader.conf.d/test-pin-pad")
TIMED_OUT, CANCELLED, NOT_REPEATED, WRONG_LENGTH = b"\x64\x00", b"\x64\x01", b"\x64\x02", b"\x64\x03"
REFUSED = b"\x6b\x80"
"""It can't make sense of the structure."""


class VerifyStructure(NamedTuple):
    """PIN_VERIFY_STRUCTURE (2.5.2), field by field."""

    timeout: int
    timeout_2: int
    format_string: int
    pin_block_string: int
    pin_length_format: int
    max_extra_digit: int
    entry_validation: int
    number_message: int
    lang_id: int
    msg_index: int
    prologue: bytes
    data_length: int
    data: bytes


class ModifyStructure(NamedTuple):
    """PIN_MODIFY_STRUCTURE (2.5.3), field by field."""

    timeout: int
    timeout_2: int
    format_string: int
    pin_block_string: int
    pin_length_format: int
    offset_old: int
    offset_new: int
    max_extra_digit: int
    confirm_pin: int
    entry_validation: int
    number_message: int
    lang_id: int
    msg_index_1: int
    msg_index_2: int
    msg_index_3: int
    prologue: bytes
    data_length: int
    data: bytes


@dataclass
class PinPad:
    """The reader, its card, and who types.

    Attributes:
        card: the card in it; None takes it out.
        typed: what the person does at the next questions: digits (old, new and new again separated by spaces), or the
            status words above; ``pull`` takes the card out. Or what says it, in the reader's thread.
        asked: the structures that came, in their order.
        answered: what was answered to them, where somebody listens or not; None: the card was gone.
        properties: answer to the properties request.
        absences: released each time that pcscd is told that there is no card; one that comes back sooner than its
            own look (every 400 ms) is overlooked by it for good.
        unplugs: asked of each command for the card: ``before`` and ``after``: the reader is pulled out of the machine
            then; None: it stays.
        plugged: it is in.
    """

    card: VirtualCard | None
    typed: list[bytes | Callable[[], bytes]] = field(default_factory=list)
    asked: list[VerifyStructure | ModifyStructure] = field(default_factory=list)
    answered: list[bytes | None] = field(default_factory=list)
    properties: bytes = b"\x06\x01\x04\x07\x01\x08"
    absences: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    unplugs: Callable[[bytes], str | None] = lambda _apdu: None
    plugged: bool = True

    def serve(self, listener: socket.socket) -> None:
        """Answer the driver until the listener is closed."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                while (head := connection.recv(5, socket.MSG_WAITALL)) and len(head) == 5:
                    data = connection.recv(int.from_bytes(head[1:], "big"), socket.MSG_WAITALL)
                    answer = self._answer(chr(head[0]), data)
                    status, content = (1, b"") if answer is None else (0, answer)
                    if not self.plugged:
                        status, content = 2, b""
                    connection.sendall(struct.pack(">BI", status, len(content)) + content)

    def remove(self) -> None:
        """Take the card out, and wait until pcscd knows."""
        self.card = None
        while self.absences.acquire(blocking=False):
            pass
        for _ in range(2):
            assert self.absences.acquire(timeout=10)

    def _answer(self, what: str, data: bytes) -> bytes | None:
        """The answer to a question of the driver; None: there is no card."""
        if what == "P":
            return self.properties
        if what == "C":
            return b""
        card = self.card  # a test may take it out at any time
        if card is None:
            if what == "?":
                self.absences.release()
            return None
        match what:
            case "?":
                return b""
            case "A":
                return ATR
            case "O" | "R":
                card.reset()
                return ATR
            case "F":
                card.power_off()
                return b""
            case "T":
                return self._transmit(card, data)
            case "V":
                return self._noted(self._verify(data))
            case "M":
                return self._noted(self._modify(data))
            case _:
                return None

    def _transmit(self, card: VirtualCard, apdu: bytes) -> bytes | None:
        """The card's answer; None: the reader went, and the card with it has no power any more."""
        when = self.unplugs(apdu)
        if when is None:
            return card.transmit(apdu)
        if when == "after":
            card.transmit(apdu)
        self.plugged = False
        card.power_off()
        return None

    def _noted(self, answer: bytes | None) -> bytes | None:
        self.answered.append(answer)
        return answer

    def _verify(self, data: bytes) -> bytes | None:
        asked = VerifyStructure._make((*struct.unpack("<BBBBBHBBHB3sI", data[:19]), data[19:]))
        self.asked.append(asked)
        entry = self._entry(1)
        if not isinstance(entry, list):
            return entry
        return self._send(asked.data, {_offset(asked.format_string): entry[0]}, asked.pin_block_string & 0x0F)

    def _modify(self, data: bytes) -> bytes | None:
        asked = ModifyStructure._make((*struct.unpack("<BBBBBBBHBBBHBBB3sI", data[:24]), data[24:]))
        self.asked.append(asked)
        entry = self._entry(3)
        if not isinstance(entry, list):
            return entry
        old, new, again = entry
        if new != again:
            return NOT_REPEATED
        places = {asked.offset_old: old, asked.offset_new: new}
        return self._send(asked.data, places, asked.pin_block_string & 0x0F)

    def _entry(self, count: int) -> list[bytes] | bytes | None:
        """What the person types: values, a status of the pad, or None: the card was taken out."""
        entry = self.typed.pop(0)
        typed = entry if isinstance(entry, bytes) else entry()
        if typed == b"pull":
            self.card = None
            return None
        if typed in (TIMED_OUT, CANCELLED, WRONG_LENGTH, REFUSED):
            return typed
        values = typed.split(b" ")
        assert len(values) == count
        asked = self.asked[-1]
        shortest, longest = asked.max_extra_digit >> 8, asked.max_extra_digit & 0xFF
        if any(not shortest <= len(value) <= longest for value in values):
            return WRONG_LENGTH
        return values

    def _send(self, apdu: bytes, places: dict[int, bytes], block: int) -> bytes:
        assert self.card is not None
        command = bytearray(apdu)
        for offset, value in places.items():
            at = 5 + offset
            command[at : at + block] = value.ljust(block, b"\xff")
        return self.card.transmit(bytes(command))


def _offset(format_string: int) -> int:
    """Where the PIN goes behind the command's header: bits 6 to 3, in bytes when bit 7 is set."""
    assert format_string & 0x80
    return format_string >> 3 & 0x0F


@contextlib.contextmanager
def pin_pad(folder: Path, pcscd: PrivatePcscd, card: VirtualCard) -> Iterator[PinPad]:
    """A reader with a pad in a private pcscd, which is started anew with it and without it afterwards."""
    module, address = folder / "pin_pad.so", folder / "pad.socket"
    command = ["gcc", "-Wall", "-Werror", "-shared", "-fPIC", "-I/usr/include/PCSC"]
    subprocess.run([*command, "-o", str(module), str(SOURCE)], check=True, timeout=60)
    pad = PinPad(card)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        server = threading.Thread(target=pad.serve, args=(listener,), daemon=True)
        server.start()
        _CONFIGURATION.write_text(
            f'FRIENDLYNAME "Test PIN pad"\nDEVICENAME {address}\nLIBPATH {module}\nCHANNELID 1\n'
        )
        try:
            pcscd.restart()
            yield pad
        finally:
            _CONFIGURATION.unlink()
            pcscd.others = None
            pcscd.restart()
            listener.shutdown(socket.SHUT_RDWR)
    server.join(10)
    assert not server.is_alive()

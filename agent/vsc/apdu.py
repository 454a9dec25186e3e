"""Command APDUs as bytes, short and extended, and the status words of the answers.

ISO/IEC 7816-4, section 5.1 (cases 1 to 4) and 5.6 (status words).
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

HEADER_BYTES: Final = 4
SHORT_LE_ALL: Final = 256
EXTENDED_LE_ALL: Final = 65_536

CLA_CHAINED: Final = 0x10


class StatusWord(enum.IntEnum):
    """The fixed status words this card answers with (SP 800-73pt2-5, section 3, and ISO 7816-4)."""

    OK = 0x9000
    MORE = 0x6100
    TRIES_LEFT = 0x63C0
    STORAGE_FAILED = 0x6581
    WRONG_LENGTH = 0x6700
    CHANNEL_NOT_SUPPORTED = 0x6881
    SECURE_MESSAGING_NOT_SUPPORTED = 0x6882
    CHAINING_NOT_SUPPORTED = 0x6884
    SECURITY_NOT_SATISFIED = 0x6982
    BLOCKED = 0x6983
    CONDITIONS_NOT_SATISFIED = 0x6985
    WRONG_DATA = 0x6A80
    NOT_FOUND = 0x6A82
    NO_SPACE = 0x6A84
    WRONG_PARAMETERS = 0x6A86
    REFERENCE_NOT_FOUND = 0x6A88
    INSTRUCTION_UNKNOWN = 0x6D00
    CLASS_UNKNOWN = 0x6E00
    INTERNAL = 0x6F00


_CHANNEL, _SECURE = 0x03, 0x0C


class StatusError(Exception):
    """A command is refused; the card's state stays as it was.

    Attributes:
        status: the status word, 0x0000 to 0xFFFF.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"{status:04X}")
        self.status = status


def require_class(cla: int) -> None:
    """Refuse a command whose class this card doesn't take: any but 00 and 10.

    ISO/IEC 7816-4, section 5.1.1: first interindustry classes (000x yyzz) name a channel and secure messaging, further
    ones (01yx zzzz) the channels from 4. This card has neither; what is no interindustry class it doesn't know.

    Raises:
        StatusError: 6881, 6882 or 6E00.
    """
    first, further = cla & 0xE0 == 0x00, cla & 0xC0 == 0x40
    require(not (further or (first and cla & _CHANNEL)), StatusWord.CHANNEL_NOT_SUPPORTED)
    require(first, StatusWord.CLASS_UNKNOWN)
    require(not cla & _SECURE, StatusWord.SECURE_MESSAGING_NOT_SUPPORTED)


def require(condition: bool, status: StatusWord) -> None:
    """Refuse the command with a status word unless the condition holds.

    Raises:
        StatusError: it doesn't.
    """
    if not condition:
        raise StatusError(status)


class Apdu(msgspec.Struct, frozen=True):
    """One command APDU.

    Attributes:
        cla: class byte.
        ins: instruction byte.
        p1: first parameter.
        p2: second parameter.
        data: the data field, 0 to 65,535 bytes.
        expected: most bytes the answer may have; None when the command had no Le.
    """

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes
    expected: int | None

    def __repr__(self) -> str:
        """Header and length only: the data field may be a PIN or a key."""
        return f"Apdu({self.cla:02X} {self.ins:02X} {self.p1:02X} {self.p2:02X}, {len(self.data)} bytes)"


def parse_apdu(raw: bytes) -> Apdu:
    """Take a command APDU apart.

    Args:
        raw: any bytes.

    Raises:
        StatusError: 6700, the length fields don't fit the bytes.
    """
    if len(raw) < HEADER_BYTES:
        raise StatusError(StatusWord.WRONG_LENGTH)
    body = raw[HEADER_BYTES:]
    if len(body) <= 1:
        data, expected = b"", (body[0] or SHORT_LE_ALL) if body else None
    elif body[0] != 0:
        data, expected = _short(body)
    else:
        data, expected = _extended(body)
    return Apdu(raw[0], raw[1], raw[2], raw[3], data, expected)


def _short(body: bytes) -> tuple[bytes, int | None]:
    end = 1 + body[0]
    if len(body) == end:
        return body[1:], None
    if len(body) == end + 1:
        return body[1:end], body[end] or SHORT_LE_ALL
    raise StatusError(StatusWord.WRONG_LENGTH)


def _extended(body: bytes) -> tuple[bytes, int | None]:
    if len(body) < 3:
        raise StatusError(StatusWord.WRONG_LENGTH)
    value = int.from_bytes(body[1:3], "big")
    if len(body) == 3:
        return b"", value or EXTENDED_LE_ALL
    end = 3 + value
    if value and len(body) == end:
        return body[3:], None
    if value and len(body) == end + 2:
        return body[3:end], int.from_bytes(body[end:], "big") or EXTENDED_LE_ALL
    raise StatusError(StatusWord.WRONG_LENGTH)

"""A command APDU of ISO/IEC 7816-3 section 12.1: header, data field, and how long an answer may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CHAINED: Final = 0x10
_HEADER: Final = 4


class Unreadable(Exception):
    """The bytes are none of the seven forms of a command APDU."""


@dataclass(frozen=True)
class Command:
    """What the host wants.

    Attributes:
        cla: class byte.
        ins: instruction byte.
        p1: first parameter.
        p2: second parameter.
        data: the data field, empty where there is none.
        le: most bytes the answer may have, None where the command names none.
        extended: whether its lengths have two bytes.
    """

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes = b""
    le: int | None = None
    extended: bool = False

    @property
    def parameters(self) -> int:
        """P1 and P2 as one number."""
        return self.p1 << 8 | self.p2

    @property
    def header(self) -> tuple[int, int, int]:
        """What stays the same through a chain."""
        return self.ins, self.p1, self.p2


def parse(apdu: bytes) -> Command:
    """Tell the cases apart.

    Raises:
        Unreadable: the lengths in it don't add up.
    """
    if len(apdu) < _HEADER:
        raise Unreadable("no header")
    cla, ins, p1, p2 = apdu[:_HEADER]
    data, le, extended = _body(apdu[_HEADER:])
    return Command(cla, ins, p1, p2, data, le, extended)


def _body(body: bytes) -> tuple[bytes, int | None, bool]:
    if not body:
        return b"", None, False
    if len(body) == 1:
        return b"", body[0] or 256, False
    if body[0]:
        data, rest = body[1 : 1 + body[0]], body[1 + body[0] :]
        if len(data) != body[0] or len(rest) > 1:
            raise Unreadable("Lc and the data field differ")
        return data, (rest[0] or 256) if rest else None, False
    if len(body) < 3:
        raise Unreadable("an extended length that breaks off")
    if len(body) == 3:
        return b"", int.from_bytes(body[1:]) or 65536, True
    size = int.from_bytes(body[1:3])
    data, rest = body[3 : 3 + size], body[3 + size :]
    if not size or len(data) != size or len(rest) not in (0, 2):
        raise Unreadable("an extended Lc and the data field differ")
    return data, (int.from_bytes(rest) or 65536) if rest else None, True

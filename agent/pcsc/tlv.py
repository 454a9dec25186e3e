"""BER-TLV as cards write it (ISO/IEC 7816-4, section 6; X.690): the host's own parser, total on any bytes.

The virtual card has another one: host and card must not share what is under test.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_MAX_TAG_BYTES: Final = 3
_MAX_LENGTH_BYTES: Final = 3
_MORE_TAG: Final = 0x1F
_CONTINUES: Final = 0x80


class TlvError(Exception):
    """Bytes that are no data objects.

    Attributes:
        at: offset of the data object that isn't one.
    """

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at

    def __str__(self) -> str:
        return f"no data object at byte {self.at}"


class DataObject(NamedTuple):
    """One data object.

    Attributes:
        tag: all its bytes as a number: 0x53, 0x7F49, 0x5FC102.
        value: its value.
    """

    tag: int
    value: bytes


def parse(data: bytes) -> list[DataObject]:
    """All data objects, which fill the data exactly.

    Raises:
        TlvError: cut short, a tag over 3 bytes, an indefinite length or one over 3 bytes.
    """
    found, at = [], 0
    while at < len(data):
        item, at = _next(data, at)
        found.append(item)
    return found


def leading(data: bytes) -> list[DataObject]:
    """All data objects up to where the data is none; nothing is wrong for this."""
    found, at = [], 0
    try:
        while at < len(data):
            item, at = _next(data, at)
            found.append(item)
    except TlvError:
        pass
    return found


def find(data: bytes, tag: int) -> bytes | None:
    """The value of the first data object with this tag; None when there is none.

    Raises:
        TlvError: as `parse`.
    """
    return next((item.value for item in parse(data) if item.tag == tag), None)


def only(data: bytes, tag: int) -> bytes:
    """The value of the data object that the data consists of.

    Raises:
        TlvError: as `parse`; another tag, or more than one data object.
    """
    found = parse(data)
    if len(found) != 1 or found[0].tag != tag:
        raise TlvError(0)
    return found[0].value


def encode(tag: int, value: bytes) -> bytes:
    """A data object with the shortest length that says it.

    Args:
        tag: all its bytes as a number.
        value: at most 2**24 - 1 bytes.
    """
    head = tag.to_bytes((tag.bit_length() + 7) // 8 or 1, "big")
    size = len(value)
    if size < _CONTINUES:
        return head + bytes((size,)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    if len(length) > _MAX_LENGTH_BYTES:
        raise ValueError(size)
    return head + bytes((_CONTINUES | len(length),)) + length + value


def _next(data: bytes, begin: int) -> tuple[DataObject, int]:
    at = begin + 1
    if data[begin] & _MORE_TAG == _MORE_TAG:
        while True:
            if at >= len(data) or at - begin >= _MAX_TAG_BYTES:
                raise TlvError(begin)
            at += 1
            if not data[at - 1] & _CONTINUES:
                break
    tag = int.from_bytes(data[begin:at], "big")
    if at >= len(data):
        raise TlvError(begin)
    size = data[at]
    at += 1
    if size >= _CONTINUES:
        count = size & ~_CONTINUES
        if not 1 <= count <= _MAX_LENGTH_BYTES or at + count > len(data):
            raise TlvError(begin)
        size = int.from_bytes(data[at : at + count], "big")
        at += count
    if at + size > len(data):
        raise TlvError(begin)
    return DataObject(tag, data[at : at + size]), at + size

"""BER-TLV as smart cards use it (ISO/IEC 7816-4, section 5.2.2): parse and build, nothing else.

The host's side (`agent.pcsc`) has its own code for this, on purpose: card and host must not agree on
a mistake. Lengths may be longer than they need to be, as some clients send them; everything else is
strict.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MAX_TAG_BYTES: Final = 3
MAX_LENGTH_BYTES: Final = 3  # 16 MiB announced at most; the APDU's own limit is far below


class TlvError(ValueError):
    """The bytes are not what they claim to be.

    Attributes:
        offset: where, in bytes from the beginning of the parsed value.
        reason: ``truncated``, ``tag``, ``length``, ``duplicate`` or ``trailing``.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


class Tlv(NamedTuple):
    """One data object."""

    tag: int
    value: bytes


def encode(tag: int, value: bytes) -> bytes:
    """Build one data object with the shortest length.

    Args:
        tag: the tag as a number, 1 to 3 bytes (0x53, 0x7F49, 0x5FC105).
        value: its bytes, fewer than 2^24.
    """
    return _tag_bytes(tag) + encode_length(len(value)) + value


def encode_length(length: int) -> bytes:
    """Build a BER length, definite and as short as possible."""
    if length < 0x80:
        return bytes([length])
    body = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(body)]) + body


def parse_all(data: bytes) -> list[Tlv]:
    """Parse a sequence of data objects that fills `data`; an empty value gives an empty list.

    Raises:
        TlvError: anything cut short, left over or malformed.
    """
    found = []
    offset = 0
    while offset < len(data):
        item, offset = _parse_at(data, offset)
        found.append(item)
    return found


def parse_map(data: bytes) -> dict[int, bytes]:
    """Parse a sequence in which every tag occurs once at the most.

    Raises:
        TlvError: as `parse_all`, or the same tag twice.
    """
    found: dict[int, bytes] = {}
    for item in parse_all(data):
        if item.tag in found:
            raise TlvError(0, "duplicate")
        found[item.tag] = item.value
    return found


def parse_one(data: bytes, tag: int) -> bytes:
    """Parse exactly one data object with the given tag and return its value.

    Raises:
        TlvError: another tag, or something after it.
    """
    item, end = _parse_at(data, 0)
    if item.tag != tag:
        raise TlvError(0, "tag")
    if end != len(data):
        raise TlvError(end, "trailing")
    return item.value


def parse_first(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """Parse the data object at the beginning; return its value and what follows it.

    Raises:
        TlvError: another tag, or malformed.
    """
    item, end = _parse_at(data, 0)
    if item.tag != tag:
        raise TlvError(0, "tag")
    return item.value, data[end:]


def _parse_at(data: bytes, offset: int) -> tuple[Tlv, int]:
    if offset + 2 <= len(data) and data[offset] & 0x1F != 0x1F and data[offset + 1] < 0x80:
        tag, length = data[offset], data[offset + 1]  # as most are: a byte each
        offset += 2
    else:
        tag, offset = _parse_tag(data, offset)
        length, offset = _parse_length(data, offset)
    end = offset + length
    if end > len(data):
        raise TlvError(offset, "truncated")
    return Tlv(tag, data[offset:end]), end


def _parse_tag(data: bytes, offset: int) -> tuple[int, int]:
    start = offset
    if offset >= len(data):
        raise TlvError(offset, "truncated")
    more = data[offset] & 0x1F == 0x1F
    offset += 1
    while more:
        if offset >= len(data):
            raise TlvError(offset, "truncated")
        if offset - start >= MAX_TAG_BYTES:
            raise TlvError(start, "tag")
        more = bool(data[offset] & 0x80)
        offset += 1
    return int.from_bytes(data[start:offset], "big"), offset


def _parse_length(data: bytes, offset: int) -> tuple[int, int]:
    if offset >= len(data):
        raise TlvError(offset, "truncated")
    first = data[offset]
    offset += 1
    if first < 0x80:
        return first, offset
    count = first & 0x7F
    if not 1 <= count <= MAX_LENGTH_BYTES:  # 0 would be the indefinite form
        raise TlvError(offset - 1, "length")
    if offset + count > len(data):
        raise TlvError(offset, "truncated")
    return int.from_bytes(data[offset : offset + count], "big"), offset + count


def _tag_bytes(tag: int) -> bytes:
    return tag.to_bytes(max(1, (tag.bit_length() + 7) // 8), "big")

"""BER-TLV as ISO/IEC 7816-4 section 6.3 has it, definite lengths only and each as short as it can be."""

from __future__ import annotations

from typing import Final, TypeAlias

Element: TypeAlias = tuple[int, bytes]

_LONGEST_LENGTH: Final = 3


class Malformed(Exception):
    """Not a sequence of data objects."""


def _tag(data: bytes, at: int) -> tuple[int, int]:
    """Read a tag of up to three bytes.

    Returns:
        The tag with its bytes as a number, and where its length begins.
    """
    tag = data[at]
    if tag in (0x00, 0xFF):
        raise Malformed("padding where a tag has to be")
    at += 1
    if tag & 0x1F != 0x1F:
        return tag, at
    for _ in range(2):
        if at >= len(data):
            raise Malformed("a tag that breaks off")
        tag, more = tag << 8 | data[at], data[at] & 0x80
        at += 1
        if not more:
            return tag, at
    raise Malformed("a tag of more than three bytes")


def _length(data: bytes, at: int) -> tuple[int, int]:
    if at >= len(data):
        raise Malformed("no length")
    first = data[at]
    if first < 0x80:
        return first, at + 1
    size = first & 0x7F
    if not 1 <= size <= _LONGEST_LENGTH or at + 1 + size > len(data):
        raise Malformed("an indefinite length, or one that breaks off")
    length = int.from_bytes(data[at + 1 : at + 1 + size])
    if length < 0x80 or length < 1 << 8 * (size - 1):
        raise Malformed("a longer length field than the length needs")
    return length, at + 1 + size


def parse(data: bytes) -> list[Element]:
    """Split a sequence of data objects.

    Raises:
        Malformed: a byte too many or too few, or a form that isn't the shortest.
    """
    found, at = [], 0
    while at < len(data):
        tag, at = _tag(data, at)
        length, at = _length(data, at)
        if at + length > len(data):
            raise Malformed("a value that breaks off")
        found.append((tag, data[at : at + length]))
        at += length
    return found


def only(data: bytes, tag: int) -> bytes:
    """Give the value of the one data object that there is.

    Raises:
        Malformed: another tag, or more than one.
    """
    match parse(data):
        case [(found, value)] if found == tag:
            return value
        case _:
            raise Malformed(f"not one data object {tag:X}")


def fields(data: bytes, allowed: frozenset[int]) -> dict[int, bytes]:
    """Give the elements of a template, each at most once.

    Raises:
        Malformed: a tag that isn't allowed there, or one twice.
    """
    elements = parse(data)
    found = dict(elements)
    if len(found) != len(elements) or not found.keys() <= allowed:
        raise Malformed("a tag that isn't allowed there, or one twice")
    return found


def build(tag: int, *values: bytes, size: int = 0) -> bytes:
    """Encode one data object.

    Args:
        tag: its tag.
        values: put one after the other.
        size: bytes that the length has at least after its first one; 0: as short as it can be.
    """
    value = b"".join(values)
    name = tag.to_bytes((tag.bit_length() + 7) // 8)
    needed = 0 if len(value) < 0x80 else (len(value).bit_length() + 7) // 8
    size = max(size, needed)
    if size == 0:
        return name + bytes([len(value)]) + value
    return name + bytes([0x80 | size]) + len(value).to_bytes(size) + value

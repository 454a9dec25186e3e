"""Strict decoding of everything that comes from outside.

Refused, each with the path where it stands: what is not JSON, is longer than ``MAX_FRAME_BYTES``, nests deeper
than ``MAX_DEPTH``, names a key twice, has an unknown field, lacks one, or has one of a wrong type or length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import msgspec

from protocol.errors import DecodeError

MAX_FRAME_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 12

T = TypeVar("T")

_AT_PATH: Final = re.compile(r" - at `(?P<path>[^`]*)`")
_UNKNOWN_FIELD: Final = re.compile(r"unknown field `(?P<field>[^`]*)`")
_MISSING_FIELD: Final = re.compile(r"missing required field `(?P<field>[^`]*)`")


def encode(value: object) -> bytes:
    """Encode a message struct (or a dict of plain values) as JSON."""
    return msgspec.json.encode(value)


def decode(data: bytes | str, type_: type[T], *, malformed: str = "frame_invalid") -> T:
    """Decode JSON into a message struct.

    Args:
        data: JSON text, at most ``MAX_FRAME_BYTES``.
        type_: the struct to decode into.
        malformed: the error code for a text that is JSON but not such a message.

    Raises:
        DecodeError: with the path; ``frame_too_large``, ``frame_too_deep``, ``frame_not_json`` or ``malformed``.
    """
    raw = data.encode() if isinstance(data, str) else data
    check_bounds(raw)
    _refuse_repeated_keys(raw, malformed)
    try:
        value: T = _decoder(cast(Hashable, type_)).decode(raw)
    except msgspec.ValidationError as error:
        raise DecodeError(malformed, _path_of(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise DecodeError("frame_not_json") from None
    return value


def convert(value: object, type_: type[T], *, malformed: str = "frame_invalid", root: str = "$") -> T:
    """Turn a value that is already decoded (from a trusted parser) into a message struct, as strictly.

    Raises:
        DecodeError: with the path below ``root``.
    """
    try:
        return msgspec.convert(value, type_, strict=True)
    except msgspec.ValidationError as error:
        raise DecodeError(malformed, root + _path_of(str(error)).removeprefix("$")) from None


def check_bounds(raw: bytes) -> None:
    """Check a text's length and depth without parsing it.

    Raises:
        DecodeError: ``frame_too_large`` or ``frame_too_deep``.
    """
    if len(raw) > MAX_FRAME_BYTES:
        raise DecodeError("frame_too_large", limit=MAX_FRAME_BYTES)
    depth = 0
    in_string = escaped = False
    for byte in raw:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise DecodeError("frame_too_deep", limit=MAX_DEPTH)
        elif byte in b"]}":
            depth -= 1


class _RepeatedKeyError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


def _refuse_repeated_keys(raw: bytes, malformed: str) -> None:
    """Two readers of one text must not see two messages: msgspec takes the last of two keys, others the first."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in items:
            if key in seen:
                raise _RepeatedKeyError(key)
            seen[key] = value
        return seen

    try:
        json.loads(raw, object_pairs_hook=pairs)
    except _RepeatedKeyError as error:
        raise DecodeError(malformed, f"$…{error.key[:40]} (twice)") from None
    except (ValueError, RecursionError):
        raise DecodeError("frame_not_json") from None


@lru_cache(maxsize=64)
def _decoder(type_: Hashable) -> Any:
    return msgspec.json.Decoder(type_, strict=True)


def _path_of(message: str) -> str:
    """Take the path out of msgspec's message; the rest of the message stays here."""
    at = _AT_PATH.search(message)
    path = at["path"] if at else "$"
    field = _UNKNOWN_FIELD.search(message) or _MISSING_FIELD.search(message)
    return f"{path}.{field['field'][:40]}" if field else path

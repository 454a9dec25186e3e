"""Process variables: plain values and core object descriptors, kept as JSON and read back as what they were.

A variable is None, bool, int, str, a descriptor, or a list or mapping of these. A descriptor is kept as
``{"$object": {"kind": …, "id": …, "label": …}}``; no other mapping may have a key that begins with ``$``, so that
nothing plain is ever taken for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from portal.model.objects import CoreObject
from protocol.errors import InlayError

_MARK: Final = "$object"
_PREFIX: Final = "$"


class VariableError(TypeError):
    """A variable is of a kind that isn't kept: a mistake in a process.

    Attributes:
        where: the variable, with the path in it.
    """

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where

    def __str__(self) -> str:
        return f"{self.where} is neither a plain value nor a core object descriptor"


def encode(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables as they are stored.

    Raises:
        VariableError: one of them can't be kept; names it, never its value.
    """
    return {_name(name, name): _encode(value, name) for name, value in variables.items()}


def decode(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Variables as they were.

    Raises:
        InlayError: ``descriptor_invalid``: what stands for an object isn't a descriptor.
    """
    return {name: _decode(value) for name, value in stored.items()}


def _object(stored: Any) -> CoreObject:
    try:
        return msgspec.convert(stored, CoreObject)
    except msgspec.ValidationError:
        raise InlayError("descriptor_invalid") from None


def _name(name: object, where: str) -> str:
    if not isinstance(name, str) or name.startswith(_PREFIX):
        raise VariableError(where)
    return name


def _encode(value: object, where: str) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case CoreObject():
            return {_MARK: msgspec.to_builtins(value)}
        case list() | tuple():
            return [_encode(item, f"{where}[{at}]") for at, item in enumerate(value)]
        case Mapping():
            return {
                _name(key, f"{where}.{key}"): _encode(item, f"{where}.{key}") for key, item in value.items()
            }
        case _:
            raise VariableError(where)


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {_MARK}:
            return _object(value[_MARK])
        return {key: _decode(item) for key, item in value.items()}
    return value

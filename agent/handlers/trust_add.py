"""``trust.add`` and ``trust.confirm``: look at a portal, then trust the one that was looked at."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from protocol import codec
from protocol.errors import DecodeError

if TYPE_CHECKING:
    from typing import Any

    from agent.order_ports import PrivateRequest, Services

_MAX_CA_BYTES: Final = 200_000


class AddParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of ``trust.add``."""

    url: str
    ca_file: str | None = None


class ConfirmParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of ``trust.confirm``."""

    url: str
    fingerprint: str
    ca_file: str | None = None


async def handle(services: Services, request: PrivateRequest) -> dict[str, Any]:
    """Say which portal it is: name, origin, fingerprint. Nothing is added."""
    params = codec.convert(dict(request.params), AddParams, malformed="params_invalid")
    return dict(await services.trust.look(params.url, await _read_ca(params.ca_file)))


async def handle_confirmation(services: Services, request: PrivateRequest) -> dict[str, Any]:
    """Add the portal if it still has the fingerprint that was confirmed."""
    params = codec.convert(dict(request.params), ConfirmParams, malformed="params_invalid")
    ca = await _read_ca(params.ca_file)
    return dict(await services.trust.add(params.url, ca, params.fingerprint))


async def _read_ca(path: str | None) -> str | None:
    """The certificates in a file of the caller's choice.

    Raises:
        DecodeError: ``params_invalid``: it can't be read, or isn't PEM.
    """
    if path is None:
        return None
    try:
        text = await asyncio.to_thread(_read_text, Path(path))
    except (OSError, ValueError):
        raise DecodeError("params_invalid", "$.ca_file") from None
    if "-----BEGIN CERTIFICATE-----" not in text or len(text) > _MAX_CA_BYTES:
        raise DecodeError("params_invalid", "$.ca_file")
    return text


def _read_text(path: Path) -> str:
    with path.open(encoding="ascii") as stream:
        return stream.read(_MAX_CA_BYTES + 1)

"""What a request must say of itself before a WebSocket is opened: Host and Origin, compared part by part.

No pattern is matched anywhere: a Host is one of three texts, an Origin one of the trusted portals'.
"""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LOOPBACK_HOSTS: Final = ("127.0.0.1", "[::1]", "localhost")
_MAX_ORIGIN: Final = 300


class Origin(NamedTuple):
    """A parsed origin (RFC 6454)."""

    scheme: str
    host: str
    port: int


class MalformedHeader(ValueError):
    """A header that is missing where it must be, there twice, or not of its form.

    Attributes:
        header: its name.
    """

    def __init__(self, header: str) -> None:
        super().__init__(header)
        self.header = header


class HeaderRefused(ValueError):
    """A header of the right form that names somebody else.

    Attributes:
        header: its name.
    """

    def __init__(self, header: str) -> None:
        super().__init__(header)
        self.header = header


def check_host(values: Sequence[str], port: int) -> None:
    """Check that the request was sent to this machine by name (against DNS rebinding).

    Args:
        values: all Host headers of the request.
        port: the agent's.

    Raises:
        MalformedHeader: none, or several.
        HeaderRefused: another host or port.
    """
    if len(values) != 1:
        raise MalformedHeader("Host")
    if values[0] not in [f"{host}:{port}" for host in _LOOPBACK_HOSTS]:
        raise HeaderRefused("Host")


def check_origin(values: Sequence[str], trusted: Iterable[str]) -> str:
    """Check that the page belongs to a trusted portal.

    Args:
        values: all Origin headers of the request.
        trusted: the trusted portals' origins.

    Returns:
        The portal's origin, as the trust store has it.

    Raises:
        MalformedHeader: several, or no origin.
        HeaderRefused: none, ``null``, or somebody else's.
    """
    if not values:
        raise HeaderRefused("Origin")
    if len(values) != 1:
        raise MalformedHeader("Origin")
    if values[0] == "null":
        raise HeaderRefused("Origin")
    found = parse_origin(values[0])
    for origin in trusted:
        if parse_origin(origin) == found:
            return origin
    raise HeaderRefused("Origin")


def parse_origin(text: str) -> Origin:
    """Parse ``https://host[:port]`` as browsers send it: lower case, no default port, nothing after it.

    Raises:
        MalformedHeader: anything else.
        HeaderRefused: another scheme.
    """
    if len(text) > _MAX_ORIGIN or not text.isascii() or not text.isprintable() or " " in text:
        raise MalformedHeader("Origin")
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError:
        raise MalformedHeader("Origin") from None
    if not parts.scheme or not parts.hostname:
        raise MalformedHeader("Origin")
    if parts.scheme != "https":
        raise HeaderRefused("Origin")
    origin = Origin(parts.scheme, parts.hostname, port or 443)
    if text not in _spellings(origin):
        raise MalformedHeader("Origin")
    return origin


def _spellings(origin: Origin) -> list[str]:
    plain = f"{origin.scheme}://{origin.host}"
    return [f"{plain}:{origin.port}", *([plain] if origin.port == 443 else [])]

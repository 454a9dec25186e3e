"""Where a request comes from: the peer, or what a reverse proxy of ours says of it.

Limits are counted by this address. Behind a proxy that isn't named in the configuration everybody would share one.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Sequence

PROXIES: Final[web.AppKey[frozenset[str]]] = web.AppKey("proxies")
"""Addresses of the reverse proxies that stand before this portal."""


def address_of(request: web.Request) -> str:
    """The address of a request's client; ``unknown`` when the transport has none."""
    proxies = request.app.get(PROXIES, frozenset())
    return client_address(request.remote or "unknown", request.headers.getall("X-Forwarded-For", []), proxies)


def client_address(peer: str, forwarded: Sequence[str], proxies: frozenset[str]) -> str:
    """The address of a client that may stand behind proxies of ours.

    The last address in ``X-Forwarded-For`` that isn't a proxy of ours counts, and only when a proxy of ours sent
    the request: what stands before it was written by the client.

    Args:
        peer: the other end of the connection.
        forwarded: all ``X-Forwarded-For`` headers.
        proxies: addresses of our proxies.
    """
    if peer not in proxies:
        return peer
    for hop in reversed(",".join(forwarded).split(",")):
        try:
            address = str(ipaddress.ip_address(hop.strip()))
        except ValueError:
            return peer
        if address not in proxies:
            return address
    return peer

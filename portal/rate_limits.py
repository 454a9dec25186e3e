"""How often something may happen for one address: counted in this process's memory."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from protocol.errors import InlayError

if TYPE_CHECKING:
    from portal.clock import Clock

MAX_KEYS: Final = 20_000
"""The oldest are forgotten beyond this, so that many addresses don't fill the memory."""


class RateLimit:
    """At most ``limit`` events in ``seconds`` for each key (sliding window)."""

    def __init__(self, limit: int, seconds: int, clock: Clock) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._events: OrderedDict[str, deque[int]] = OrderedDict()

    def check(self, key: str) -> None:
        """Refuse when the limit was reached.

        Raises:
            InlayError: ``rate_limited``.
        """
        events = self._events.get(key)
        if events is None:
            return
        while events and events[0] <= self._clock() - self._seconds:
            events.popleft()
        if len(events) >= self._limit:
            raise InlayError("rate_limited")

    def take(self, key: str) -> None:
        """Count an event before it is known how it ends, so that many at once get no further than one by one.

        Raises:
            InlayError: ``rate_limited``.
        """
        self.check(key)
        self.count(key)

    def give_back(self, key: str) -> None:
        """Take back the latest event of a key: it was none after all."""
        events = self._events.get(key)
        if events:
            events.pop()

    def count(self, key: str) -> None:
        """Note an event."""
        events = self._events.setdefault(key, deque(maxlen=self._limit))
        events.append(self._clock())
        self._events.move_to_end(key)
        while len(self._events) > MAX_KEYS:
            self._events.popitem(last=False)

    def forget(self, key: str) -> None:
        """Start anew for a key, after a success."""
        self._events.pop(key, None)


def limit_key(address: str) -> str:
    """What counts as one address: an IPv4 address, or an IPv6 network of 64 bits, which one subscriber has whole."""
    return _network(address, 32)


def network_key(address: str) -> str:
    """What counts as one network: 24 bits of an IPv4 address, 64 of an IPv6 address."""
    return _network(address, 24)


def _network(address: str, ipv4_bits: int) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((parsed, 64), strict=False))
        parsed = parsed.ipv4_mapped
    network = ipaddress.IPv4Network((parsed, ipv4_bits), strict=False)
    return str(parsed) if ipv4_bits == parsed.max_prefixlen else str(network)

"""How often a password may be guessed, without anybody being able to lock somebody else's account.

Three counts: of an address, of an account from one network, and of an account from everywhere. The last one never
locks: beyond its ceiling it lets one try through at a time, with growing pauses, and it doesn't hold for networks from
which the account was used before. So its owner gets in while others guess, and they get a bounded number of guesses.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, NamedTuple

from portal.rate_limits import MAX_KEYS, RateLimit, limit_key, network_key
from protocol.errors import InlayError

if TYPE_CHECKING:
    from portal.clock import Clock

PER_ADDRESS: Final = (30, 900)
PER_NETWORK: Final = (10, 900)
"""Of one account."""
CEILING: Final = 200
"""Wrong passwords of an account in a day, from everywhere, before there are pauses."""
LONGEST_PAUSE: Final = 60
_DAY: Final = 86_400
_STEP: Final = 10
"""After so many more tries the pause is doubled."""


class Try(NamedTuple):
    """A try that was counted.

    Attributes:
        account: whose password.
        address: where it comes from.
    """

    account: str
    address: str

    @property
    def pair(self) -> str:
        """Account and network."""
        return f"{network_key(self.address)} {self.account}"


class LoginLimits:
    """Counts tries before they are answered, so that many at once get no further than one by one."""

    def __init__(self, clock: Clock) -> None:
        self._by_address = RateLimit(*PER_ADDRESS, clock)
        self._by_network = RateLimit(*PER_NETWORK, clock)
        self._everywhere = _Pauses(clock)
        self._used: OrderedDict[str, None] = OrderedDict()

    def take(self, account: str, address: str) -> Try:
        """Count a try.

        Raises:
            InlayError: ``rate_limited``.
        """
        found = Try(account, address)
        self._by_address.check(limit_key(address))
        self._by_network.check(found.pair)
        if found.pair not in self._used:
            self._everywhere.take(account)  # refused, it costs nobody's tries
        self._by_address.count(limit_key(address))
        self._by_network.count(found.pair)
        return found

    def succeeded(self, found: Try) -> None:
        """The password was right: it was no guess, and its network is one of the account's."""
        self._by_address.give_back(limit_key(found.address))
        self._by_network.forget(found.pair)
        if found.pair not in self._used:
            self._everywhere.give_back(found.account)
        self._used[found.pair] = None
        self._used.move_to_end(found.pair)
        while len(self._used) > MAX_KEYS:
            self._used.popitem(last=False)


class _Pauses:
    """Tries of each account in a day; beyond the ceiling one at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tries: OrderedDict[str, deque[int]] = OrderedDict()

    def take(self, account: str) -> None:
        now = self._clock()
        tries = self._tries.setdefault(account, deque())
        while tries and tries[0] <= now - _DAY:
            tries.popleft()
        beyond = len(tries) - CEILING
        if beyond >= 0 and now < tries[-1] + min(1 << (beyond // _STEP), LONGEST_PAUSE):
            raise InlayError("rate_limited")  # doesn't count: knocking makes no pause longer
        tries.append(now)
        self._tries.move_to_end(account)
        while len(self._tries) > MAX_KEYS:
            self._tries.popitem(last=False)

    def give_back(self, account: str) -> None:
        tries = self._tries.get(account)
        if tries:
            tries.pop()

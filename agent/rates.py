"""How often something may happen: a sliding window for each key."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class RateLimit:
    """At most ``count`` times in any ``seconds``, for each key."""

    def __init__(self, count: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._seconds = seconds
        self._clock = clock
        self._times: dict[str, deque[float]] = {}

    def allow(self, key: str) -> bool:
        """Whether it may happen now; counts it when it may. Keys come from a small set (trusted origins)."""
        now = self._clock()
        times = self._times.setdefault(key, deque(maxlen=self._count))
        if len(times) == self._count and now - times[0] < self._seconds:
            return False
        times.append(now)
        return True

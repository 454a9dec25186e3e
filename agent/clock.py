"""Time: this machine's, and the portal's on a monotonic clock."""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

from protocol.errors import InlayError
from protocol.orders import CLOCK_REFUSAL, CLOCK_WARNING

_LOG = logging.getLogger(__name__)


class PortalClock(NamedTuple):
    """The portal's time as it was told, carried on by a clock that nobody can set.

    Attributes:
        told: portal time in seconds since 1970, as the authenticated hello gave it.
        at: this machine's monotonic clock at that moment, seconds.
        drift: this machine's clock less the portal's at that moment, seconds.
    """

    told: float
    at: float
    drift: float

    def now(self) -> float:
        """The portal's time now."""
        return self.told + (time.monotonic() - self.at)

    @property
    def warning(self) -> bool:
        """Whether the drift is worth a word to the person."""
        return abs(self.drift) > CLOCK_WARNING


def learn(portal_time: float) -> PortalClock:
    """Take the portal's time.

    Raises:
        InlayError: ``clock_wrong``: this machine's clock is off by more than a day.
    """
    clock = PortalClock(portal_time, time.monotonic(), time.time() - portal_time)
    if abs(clock.drift) > CLOCK_REFUSAL:
        raise InlayError("clock_wrong", hours=CLOCK_REFUSAL // 3600)
    if clock.warning:
        _LOG.warning("this computer's clock differs from the portal's by %d s", round(clock.drift))
    return clock

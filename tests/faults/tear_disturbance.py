"""What happens at one position of `tests.faults.tears`, and what is watched meanwhile."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.faults.tear_jobs import CUT, KILLED, POWER, TORN, Position
from tests.faults.tear_judgement import Card
from tests.faults.tear_processes import RunningAgent
from tests.support.fake_portal import FakePortal

_SECONDS: Final = 60.0


class Disturbance:
    """Told of every APDU, in the thread of whoever serves the card: disturbs at one position, once.

    Attributes:
        agent: the one that is killed where that is the mode.
        done: the position was reached.
        last: the number of the last APDU.
    """

    def __init__(self, watched: Card, portal: FakePortal, at: Position | None = None) -> None:
        """Prepare, in the portal's event loop; without a position nothing is disturbed."""
        self._watched, self._portal, self._at = watched, portal, at
        self._loop = asyncio.get_running_loop()
        self.agent: RunningAgent | None = None
        self.done = False
        self.last = 0

    def tear(self, number: int) -> str | None:
        """On which side of this APDU the card is torn out; or ``power``: its power is cut before it."""
        self._watched.look()
        self.last = number
        at = self._at
        if at is None or self.done or number != at.apdu or at.mode not in (TORN, POWER):
            return None
        self.done = True
        return at.side if at.mode == TORN else "power"

    def disturb(self, number: int, side: str) -> bool:
        """Whether the agent was killed on this side of an APDU, so that it is never heard, or never answered.

        Where the channel is cut it is gone when this returns.
        """
        self._watched.look()
        at = self._at
        if at is None or self.done or (number, side) != (at.apdu, at.side) or at.mode not in (KILLED, CUT):
            return False
        self.done = True
        if at.mode == CUT:
            asyncio.run_coroutine_threadsafe(self._portal.cut(), self._loop).result(_SECONDS)
            return False
        assert self.agent is not None
        self.agent.kill()
        return True

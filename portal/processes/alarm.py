"""One wake for the next thing that is due: no polling."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Protocol

from protocol.traces import describe

if TYPE_CHECKING:
    from portal.clock import Clock
    from portal.events import ChangeBus

_LOG = logging.getLogger(__name__)
_AFTER_FAILURE: Final = 30.0
"""Seconds before work that failed (the database is away) is tried again."""
_TO_STOP: Final = 5.0
"""Seconds that work under way has to end."""


class Work(Protocol):
    """Work that falls due."""

    topic: str
    """changes of when the next work is due"""

    async def next_due(self) -> int | None:
        """When the next work is due; None when there is none."""

    async def run_due(self) -> None:
        """Do all that is due."""


class Alarm:
    """Sleeps until work is due, or until its topic says that this may have changed."""

    def __init__(self, work: Work, bus: ChangeBus, clock: Clock) -> None:
        self._work = work
        self._bus = bus
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def start(self) -> None:
        """Start."""
        self._task = asyncio.create_task(self._run(), name=f"alarm {self._work.topic}")

    async def stop(self) -> None:
        """Stop; work that is being done may end, what is due then is found at the next start."""
        if self._task is None:
            return
        self._stopping.set()
        self._bus.publish([self._work.topic])
        _, late = await asyncio.wait([self._task], timeout=_TO_STOP)
        for task in late:
            task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        with self._bus.watch(self._work.topic) as watch:
            while not self._stopping.is_set():
                try:
                    await self._work.run_due()
                    due = await self._work.next_due()
                except Exception as cause:
                    _LOG.error(  # without its text
                        "%s: tried again in %g s: %s", self._work.topic, _AFTER_FAILURE, describe(cause)
                    )
                    await watch.wait(_AFTER_FAILURE)
                    continue
                await watch.wait(None if due is None else max(0.0, due - self._clock()))

"""Readers and cards as they come and go, for everybody in the agent who wants to know.

One monitor for all, and none while nobody watches: an idle agent waits for nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from agent.pcsc.reader_events import CardInserted, Look, ReaderEvent, ServiceLost, changes

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_EVENTS: Final = 256
"""Events kept for a watcher that doesn't come to take them; what stands now is never lost."""


class ReaderMonitor(Protocol):
    """What tells of each change, from a thread of its own: `agent.pcsc.monitor.Monitor`."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End, and wait for the end."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a watcher is told.

    Attributes:
        look: how it stands now.
        insertions: reader to the number of cards put in since somebody watches: it moves when a card was taken
            out and put in again between two tellings.
        events: what happened since the last telling, oldest first.
    """

    look: Look
    insertions: dict[str, int]
    events: tuple[ReaderEvent, ...]


class Watcher:
    """One who watches; made by `ReaderWatch.watch`."""

    def __init__(self, hub: ReaderWatch) -> None:
        self._hub = hub
        self._news = asyncio.Event()
        self._events: deque[ReaderEvent] = deque(maxlen=_MOST_EVENTS)

    async def next(self) -> Seen:
        """Wait for a change; the first time for the first look, which is soon."""
        await self._news.wait()
        self._news.clear()
        events = tuple(self._events)
        self._events.clear()
        return self._hub.seen(events)

    async def close(self) -> None:
        """Watch no more; harmless when closed."""
        await self._hub.leave(self)

    def notice(self, events: tuple[ReaderEvent, ...]) -> None:
        """The hub: something changed."""
        self._events.extend(events)
        self._news.set()


class ReaderWatch:
    """Keeps the monitor while somebody watches."""

    def __init__(self, make: Callable[[Callable[[Look], None]], ReaderMonitor] | None = None) -> None:
        """Nothing runs yet.

        Args:
            make: makes a monitor that tells its looks to the function given.
        """
        self._make = make if make is not None else _pcsc_monitor
        self._lock = asyncio.Lock()
        self._watchers: set[Watcher] = set()
        self._monitor: ReaderMonitor | None = None
        self._look: Look | None = None
        self._insertions = Counter[str]()

    async def watch(self) -> Watcher:
        """Begin to watch. Close the watcher in the end."""
        watcher = Watcher(self)
        async with self._lock:
            self._watchers.add(watcher)
            if self._monitor is None:
                self._begin()
            elif self._look is not None:
                watcher.notice(changes(Look(), self._look))
        return watcher

    async def leave(self, watcher: Watcher) -> None:
        """`Watcher.close`; with the last one the monitor ends."""
        async with self._lock:
            self._watchers.discard(watcher)
            if self._watchers or self._monitor is None:
                return
            monitor, self._monitor = self._monitor, None
            await asyncio.shield(asyncio.to_thread(monitor.stop))

    async def close(self) -> None:
        """The agent ends: nobody watches any more."""
        for watcher in list(self._watchers):
            await self.leave(watcher)

    def seen(self, events: tuple[ReaderEvent, ...]) -> Seen:
        """How it stands now, with these events."""
        return Seen(self._look if self._look is not None else Look(), dict(self._insertions), events)

    def _begin(self) -> None:
        self._look = None
        self._insertions.clear()
        loop = asyncio.get_running_loop()

        def tell(look: Look) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._changed, monitor, look)

        monitor = self._monitor = self._make(tell)
        monitor.start()

    def _changed(self, monitor: ReaderMonitor, look: Look) -> None:
        if monitor is not self._monitor:
            return  # told by a monitor that has been stopped since
        first, before = self._look is None, self._look if self._look is not None else Look()
        self._look = look
        events = changes(before, look)
        if first and look.problem is not None and not events:
            events = (ServiceLost(look.problem),)
        self._insertions.update(event.reader for event in events if isinstance(event, CardInserted))
        for watcher in self._watchers:
            watcher.notice(events)


def _pcsc_monitor(tell: Callable[[Look], None]) -> ReaderMonitor:
    from agent.pcsc.monitor import Monitor

    return Monitor(tell)

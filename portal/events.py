"""A bus that says *that* something changed, never what: whoever hears it reads the store.

So nothing is lost when two changes fall together, and the bus of several workers (PostgreSQL's NOTIFY) needs no
other messages than topics.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

DEADLINES = "deadlines"
REVOCATIONS = "revocations"
MAILS = "mails"
EXPIRY_MAILS = "expiry_mails"


def order_topic(jti: str) -> str:
    """Topic of an order and its process."""
    return f"order:{jti}"


def process_topic(process_id: str) -> str:
    """Topic of a process: its steps, its letters; of its order, `order_topic`."""
    return f"process:{process_id}"


class ChangeBus:
    """Topics and who watches them, within this process."""

    def __init__(self) -> None:
        self._watches: dict[str, set[Watch]] = {}

    def publish(self, topics: Iterable[str]) -> None:
        """Wake whoever watches one of the topics."""
        for topic in topics:
            for watch in tuple(self._watches.get(topic, ())):
                watch.wake()

    def watch(self, *topics: str) -> Watch:
        """Watch topics; used as a context manager."""
        return Watch(self, topics)

    def add(self, watch: Watch) -> None:
        """Take up a watch."""
        for topic in watch.topics:
            self._watches.setdefault(topic, set()).add(watch)

    def remove(self, watch: Watch) -> None:
        """Drop a watch."""
        for topic in watch.topics:
            watches = self._watches.get(topic, set())
            watches.discard(watch)
            if not watches:
                self._watches.pop(topic, None)


class Watch:
    """Remembers that a topic changed until it is asked: no change between two waits is missed."""

    def __init__(self, bus: ChangeBus, topics: tuple[str, ...]) -> None:
        self.topics = topics
        self._bus = bus
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Note a change."""
        self._changed.set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for a change since the last wait.

        Returns:
            False when ``seconds`` passed without one.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    def __enter__(self) -> Self:
        self._bus.add(self)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._bus.remove(self)

"""Work on a card that isn't broken off in the middle: who is cancelled meanwhile waits for its end, if it has one.

But not for a person's: where the work itself waits for a card to be put back nothing is under way, and it ends at once.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar

from agent.card_thread import LEFT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

T = TypeVar("T")
_nothing_under_way: Final[ContextVar[asyncio.Event | None]] = ContextVar("nothing_under_way", default=None)
"""Set while the work that `to_its_end` does waits for a person."""


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Do something that must not be left half told.

    Who is cancelled meanwhile waits until it has ended, waits in `for_a_person`, or has taken longer than a card's
    command does.

    Raises:
        Exception: what the work raises.
    """
    idle = asyncio.Event()
    task = asyncio.ensure_future(_told(work, idle))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        waits = asyncio.ensure_future(idle.wait())
        await asyncio.wait({task, waits}, timeout=LEFT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # whatever it was: being cancelled comes first
        raise


@contextmanager
def for_a_person() -> Iterator[None]:
    """While this lasts, work that is done `to_its_end` waits for somebody, and may be broken off."""
    idle = _nothing_under_way.get()
    if idle is None:
        yield
        return
    idle.set()
    try:
        yield
    finally:
        idle.clear()


async def _told(work: Coroutine[Any, Any, T], idle: asyncio.Event) -> T:
    _nothing_under_way.set(idle)
    return await work

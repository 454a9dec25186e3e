"""The thread of one card: PC/SC calls block, and one that never comes back keeps no process from ending."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

LEFT_SECONDS: Final = 90.0
"""How long a command may still take when nobody waits for its answer any more: a key takes a minute."""


class CardThread:
    """Does one thing after the other; `end` in the end."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._left = False

    async def run(self, work: Callable[[], T]) -> T:
        """Do something, and wait for it.

        Who is cancelled waits for its end first, for what a card was told is to be known; but not for ever: a card may
        ask for more time without end, and then it is left to itself.

        Raises:
            Exception: what the work raises.
        """
        future = self._begin(work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(_seen)  # being cancelled comes first, whatever it was
            try:
                await asyncio.wait({future}, timeout=LEFT_SECONDS)
            finally:
                self._left = not future.done()
            raise

    async def last(self, work: Callable[[], None]) -> None:
        """Do something, and wait for it unless what came before was left to itself: then it follows that."""
        if self._left:
            self._jobs.put(work)
        else:
            await self.run(work)

    def end(self) -> None:
        """The thread ends when it has done everything."""
        self._jobs.put(None)

    def _begin(self, work: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def deliver(set_it: Callable[[Any], None], value: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(lambda: None if future.done() else set_it(value))

        def job() -> None:
            try:
                result = work()
            except Exception as error:
                deliver(future.set_exception, error)
            else:
                deliver(future.set_result, result)

        self._jobs.put(job)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="card", daemon=True)
            self._thread.start()
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _seen(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()

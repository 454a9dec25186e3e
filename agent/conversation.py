"""A request whose answer takes a person: the command stays in the foreground until its end, and ends it by going."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Coroutine


class Conversation:
    """What a person is asked, and the answer that comes of it."""

    def __init__(self, work: Coroutine[Any, Any, dict[str, Any]]) -> None:
        """Begin."""
        self._task = asyncio.create_task(work)

    def abandon(self) -> None:
        """The command has gone: its window closes. What had been agreed to is done all the same."""
        self._task.cancel()

    async def wait(self) -> dict[str, Any]:
        """Wait for the answer.

        Raises:
            InlayError: why it failed; ``user_cancelled`` after `abandon`.
        """
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if self._task.cancelled():
                raise InlayError("user_cancelled") from None
            raise

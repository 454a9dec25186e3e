"""Ending the agent at the person's own word: what is under way is told first, and broken off only on demand."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Shutdown:
    """Knows what is under way, and ends the agent.

    Attributes:
        asked: set when the agent is to end.
    """

    def __init__(self, orders: Callable[[], list[str]]) -> None:
        """``orders`` names the orders that are being carried out."""
        self.asked = asyncio.Event()
        self._orders = orders
        self._conversations: list[str] = []

    @contextlib.contextmanager
    def busy(self, title: str) -> Iterator[None]:
        """A person is being asked something, named by its title."""
        self._conversations.append(title)
        try:
            yield
        finally:
            self._conversations.remove(title)

    def stop(self, *, now: bool) -> list[str]:
        """End the agent.

        Args:
            now: even if something is under way, which is undone then, or goes on at the next start.

        Returns:
            What was under way.

        Raises:
            InlayError: ``agent_busy``: something is, and it isn't to end now.
        """
        under_way = [*self._orders(), *self._conversations]
        if under_way and not now:
            raise InlayError("agent_busy", what="; ".join(under_way))
        self.asked.set()
        return under_way

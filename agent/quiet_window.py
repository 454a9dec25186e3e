"""Stands where a window would be for an order that goes on without one: after a restart, or before consent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agent.ports import CardChoice, CardSummary, Consented, InteractionError, NoDisplay, OrderPrompt
from protocol.errors import InlayError


class QuietWindow:
    """Shows nothing and asks nothing; see ``agent.ports.WindowSession``."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.failure: InteractionError | None = None

    async def consent(self) -> Consented:
        """Nobody can be asked.

        Raises:
            NoDisplay: always.
        """
        raise NoDisplay

    async def ask(self, prompt: OrderPrompt) -> Consented:
        """Nobody can be asked.

        Raises:
            NoDisplay: always.
        """
        raise NoDisplay

    async def choose(self, title: str, cards: Sequence[CardChoice], note: str | None = None) -> str:
        """Nobody can be asked.

        Raises:
            NoDisplay: always.
        """
        raise NoDisplay

    async def show_number(self, number: str) -> None:
        """Nothing."""

    async def show_progress(
        self, step_id: str, text: str, done: int, total: int, *, can_cancel: bool = True
    ) -> None:
        """Nothing."""

    async def show_details(self, details: CardSummary, puk: bytearray | None = None) -> None:
        """Nothing; the PUK is wiped unseen."""
        if puk is not None:
            puk[:] = bytes(len(puk))

    async def show_done(self, title: str, lines: tuple[str, ...]) -> None:
        """Nothing."""

    async def show_error(self, error: InlayError) -> None:
        """Nothing."""

    async def raise_window(self) -> None:
        """Nothing."""

    async def wait_closed(self) -> None:
        """There is nothing to wait for."""

    async def close(self) -> None:
        """There is nothing to close."""

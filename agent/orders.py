"""One order on this machine as handlers see it: its person, its page, and its exchange with the portal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from agent.order_exchange import OrderExchange
from agent.ports import while_open
from protocol.messages import Progress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from agent.channel import Channel
    from agent.journal import Journal, OrderRef
    from agent.order_exchange import OrderKeys
    from agent.order_ports import Page
    from agent.ports import OrderPrompt, WindowSession
    from protocol.messages import KeyCount, Order, PublicJwk, Step
    from protocol.orders import Position

T = TypeVar("T")


class OrderRun(OrderExchange):
    """An order between its beginning in the journal and its end; see ``agent.order_ports.OrderContext``.

    Attributes:
        ref: which.
        order: the verified order.
        window: the person's window.
        number: the number to show, with binding ``number``.
    """

    def __init__(
        self,
        ref: OrderRef,
        order: Order,
        keys: OrderKeys,
        journal: Journal,
        dial: Callable[[], Awaitable[Channel]],
        *,
        window: WindowSession,
        position: Position | None = None,
        page: Page | None = None,
        number: str | None = None,
    ) -> None:
        """Prepare; `connect` begins.

        Args:
            ref: which order.
            order: the verified order.
            keys: its keys.
            journal: where it has begun.
            dial: opens an authenticated channel to the order's portal.
            window: the person's window.
            position: where the journal has it, after a restart.
            page: the page that brought the code by loopback.
            number: the number to show.
        """
        super().__init__(ref, order, keys, journal, dial, position)
        self.window = window
        self.number = number
        self._prompt: OrderPrompt | None = None
        self._page = page

    @property
    def prompt(self) -> OrderPrompt:
        """What the window was opened with."""
        if self._prompt is None:
            raise RuntimeError("the order has no window")
        return self._prompt

    @property
    def title(self) -> str:
        """What is done, as the window says it."""
        return "an order" if self._prompt is None else f"“{self._prompt.title}”"

    def opened(self, window: WindowSession, prompt: OrderPrompt) -> None:
        """The order has a window of its own now."""
        self.window, self._prompt = window, prompt

    @property
    def encryption_key(self) -> PublicJwk:
        """Public half of the ephemeral key."""
        return self._keys.ephemeral.public

    def decrypt(self, token: str) -> bytearray:
        """Open a JWE to the ephemeral key; the caller wipes what it gets."""
        return self._keys.ephemeral.decrypt(token)

    async def guard(self, work: Awaitable[T]) -> T:
        """Do something that ends when the window is closed or the order is interrupted."""
        return await while_open(self.window, self._unless_interrupted(work))

    async def progress(self, step: Step, key: KeyCount | None = None) -> None:
        """Tell portal and page that a step begins, and with the keys which of them is made now."""
        await self.send(Progress(step=step, key=key))
        if self._page is not None:
            self._page.progress(step, key)

    async def bind(self) -> None:
        """Wait until the portal knows of the consent, then hand the page its secret where the order says so."""
        await self.delivered()
        if self._page is not None and self.order.completion is not None:
            self._page.completion(self.order.completion)

    async def record(self, step: str, work: Coroutine[Any, Any, T]) -> T:
        """Do a step, journalled before and after; when it can't be journalled it isn't begun."""
        try:
            await asyncio.to_thread(self._journal.step, self.ref, step, "before")
        except BaseException:
            work.close()
            raise
        result = await work
        await asyncio.to_thread(self._journal.step, self.ref, step, "after")
        return result

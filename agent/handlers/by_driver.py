"""One operation that is carried out differently on virtual and on physical cards: the order's ``driver`` decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.order_ports import GoesForward
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.order_ports import OrderContext, OrderHandler
    from agent.ports import OrderPrompt
    from protocol.messages import Message, Order


class ByDriver:
    """See ``agent.order_ports.OrderHandler`` and ``GoesForward``."""

    def __init__(self, handlers: Mapping[str, OrderHandler]) -> None:
        """Hand orders on.

        Args:
            handlers: by the driver's name.
        """
        self._handlers = handlers

    def prompt(self, order: Order, portal_name: str) -> OrderPrompt:
        """What consent is asked for.

        Raises:
            InlayError: ``encoding_unsupported``: this version has no such driver; what the handler raises.
        """
        return self._of(order).prompt(order, portal_name)

    async def perform(self, context: OrderContext) -> None:
        """Carry it out."""
        await self._of(context.order).perform(context)

    async def finish(self, context: OrderContext) -> None:
        """After the portal's ``finished``."""
        await self._of(context.order).finish(context)

    async def undo(self, order: Order) -> None:
        """Undo it; an order that no handler takes has made nothing."""
        handler = self._handlers.get(_driver(order))
        if handler is not None:
            await handler.undo(order)

    async def receipt_after(self, order: Order, steps: Sequence[tuple[str, str]]) -> Message | None:
        """The receipt of an order whose point of no return was passed, where its handler knows of one."""
        handler: object = self._handlers.get(_driver(order))
        return await handler.receipt_after(order, steps) if isinstance(handler, GoesForward) else None

    def _of(self, order: Order) -> OrderHandler:
        driver = _driver(order)
        handler = self._handlers.get(driver)
        if handler is None:
            raise InlayError("encoding_unsupported", what=f"a card by the driver {driver}")
        return handler


def _driver(order: Order) -> str:
    driver: str = getattr(order.parameters, "driver", "virtual")
    return driver

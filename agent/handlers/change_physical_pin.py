"""*Change PIN* of a physical card: an order by which its holder, who knows the PIN, chooses another."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from agent.handlers import physical_pin
from agent.handlers.order_steps import account_line
from agent.handlers.physical_pin import PinWork
from agent.handlers.pin_at_pad import see_that_it_can_be_typed
from agent.handlers.token_pin import TokenPinWork
from agent.pin_rules import plain_rules
from agent.ports import InteractionError, OrderPrompt
from protocol.errors import DecodeError
from protocol.messages import ChangePin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from protocol.messages import Message, Order

CONSEQUENCES: Final = (
    "You choose a new PIN for the card; the one that it has now is good no more.",
    "You need the card, and a reader. Keys and certificates stay as they are.",
)


class ChangePhysicalPinHandler:
    """The operation *change PIN* of cards in readers; see ``agent.order_ports.OrderHandler`` and ``GoesForward``."""

    def __init__(self, readers: CardReaders) -> None:
        """Change PINs of cards in these readers."""
        self._readers = readers

    def prompt(self, order: Order, portal_name: str) -> OrderPrompt:
        """The consent page; PINs are asked for when the card is there.

        Raises:
            InlayError: ``pin_policy_unsatisfiable``, ``encoding_unsupported``.
        """
        ordered = _ordered(order)
        see_that_it_can_be_typed(ordered)
        plain_rules(ordered.pin_policy)
        return OrderPrompt(
            portal_name=portal_name,
            origin=order.origin,
            account=account_line(order),
            title="Change the PIN of your card",
            consequences=CONSEQUENCES,
            pin_policy=None,
            confirm_label="Go on",
            card=ordered.label,
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt."""
        ordered = _ordered(context.order)
        rules = plain_rules(ordered.pin_policy)
        work = PinWork if ordered.driver == "piv" else TokenPinWork
        await work(context, self._readers, ordered, rules, "PIN").carry_out()

    async def finish(self, context: OrderContext) -> None:
        """The portal has it."""
        with contextlib.suppress(InteractionError):
            await context.window.show_done("The PIN is changed", ("The card has its new PIN.",))

    async def undo(self, order: Order) -> None:
        """Nothing was made that could be removed."""

    async def receipt_after(self, order: Order, steps: Sequence[tuple[str, str]]) -> Message | None:
        """See `agent.handlers.physical_pin.receipt_after`."""
        return await physical_pin.receipt_after(_ordered(order).guid, steps)


def _ordered(order: Order) -> ChangePin:
    if not isinstance(order.parameters, ChangePin):
        raise DecodeError("order_malformed", "$.parameters.operation")
    return order.parameters

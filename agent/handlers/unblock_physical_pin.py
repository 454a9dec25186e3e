"""*Unblock PIN* of a physical card: an order by which its holder gets a new PIN by the card's PUK.

By the PUK and nothing else: RESET RETRY COUNTER of a PIV card takes no management key (SP 800-73pt2-5, section 3.2.3).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from agent.handlers import physical_pin
from agent.handlers.order_steps import account_line
from agent.handlers.physical_pin import PinWork
from agent.handlers.pin_at_pad import see_that_it_can_be_typed
from agent.handlers.token_pin import TokenPinWork
from agent.pin_rules import plain_rules
from agent.ports import InteractionError, OrderPrompt
from protocol.errors import DecodeError
from protocol.messages import UnblockPin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from protocol.messages import Message, Order


class UnblockPhysicalPinHandler:
    """The operation *unblock PIN*; see ``agent.order_ports.OrderHandler`` and ``GoesForward``."""

    def __init__(self, readers: CardReaders) -> None:
        """Unblock cards in these readers."""
        self._readers = readers

    def prompt(self, order: Order, portal_name: str) -> OrderPrompt:
        """The consent page; PUK and new PIN are asked for when the card is there.

        Raises:
            InlayError: ``pin_policy_unsatisfiable``, ``encoding_unsupported``.
        """
        ordered = _ordered(order)
        see_that_it_can_be_typed(ordered)
        plain_rules(ordered.pin_policy)
        by = "You type its PUK" if ordered.puk == "typed" else "The portal tells the card its PUK"
        return OrderPrompt(
            portal_name=portal_name,
            origin=order.origin,
            account=account_line(order),
            title="Unblock your card",
            consequences=(
                f"{by}, and you choose a new PIN; the old one is good no more.",
                "You need the card, and a reader. Keys and certificates stay as they are.",
            ),
            pin_policy=None,
            confirm_label="Go on",
            card=ordered.label,
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt."""
        ordered = _ordered(context.order)
        rules = plain_rules(ordered.pin_policy)
        work = PinWork if ordered.driver == "piv" else TokenPinWork
        await work(context, self._readers, ordered, rules, "PUK").carry_out(typed=ordered.puk == "typed")

    async def finish(self, context: OrderContext) -> None:
        """The portal has it."""
        with contextlib.suppress(InteractionError):
            await context.window.show_done("The card is unblocked", ("It has its new PIN.",))

    async def undo(self, order: Order) -> None:
        """Nothing was made that could be removed."""

    async def receipt_after(self, order: Order, steps: Sequence[tuple[str, str]]) -> Message | None:
        """See `agent.handlers.physical_pin.receipt_after`."""
        return await physical_pin.receipt_after(_ordered(order).guid, steps)


def _ordered(order: Order) -> UnblockPin:
    if not isinstance(order.parameters, UnblockPin):
        raise DecodeError("order_malformed", "$.parameters.operation")
    return order.parameters

"""*Change PIN* of a physical card: an order by which its holder, who knows the PIN, chooses another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.handlers import pin_setting
from agent.handlers.card_in_reader import CardInReaderHandler, Telling
from agent.handlers.physical_pin import PinWork
from agent.handlers.pin_at_pad import see_that_it_can_be_typed
from agent.handlers.token_pin import TokenPinWork
from agent.pin_rules import plain_rules
from protocol.messages import ChangePin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.order_ports import OrderContext
    from protocol.messages import Message, Order

CONSEQUENCES: Final = (
    "You choose a new PIN for the card; the one that it has now is good no more.",
    "You need the card, and a reader. Keys and certificates stay as they are.",
)


class ChangePhysicalPinHandler(CardInReaderHandler[ChangePin]):
    """The operation *change PIN* of cards in readers; see ``agent.order_ports.OrderHandler`` and ``GoesForward``."""

    kind = ChangePin

    def _told(self, ordered: ChangePin) -> Telling:
        see_that_it_can_be_typed(ordered)
        plain_rules(ordered.pin_policy)
        return Telling(
            "Change the PIN of your card",
            CONSEQUENCES,
            "The PIN is changed",
            "The card has its new PIN.",
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt."""
        ordered = self._ordered(context.order)
        rules = plain_rules(ordered.pin_policy)
        work = PinWork if ordered.driver == "piv" else TokenPinWork
        await work(context, self._readers, ordered, rules, "PIN").carry_out()

    async def receipt_after(self, order: Order, steps: Sequence[tuple[str, str]]) -> Message | None:
        """See `agent.handlers.pin_setting.receipt_after`."""
        return await pin_setting.receipt_after(self._ordered(order).guid, steps)

"""*Unblock PIN* of a physical card: an order by which its holder gets a new PIN by the card's PUK.

By the PUK and nothing else: RESET RETRY COUNTER of a PIV card takes no management key (SP 800-73pt2-5, section 3.2.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.handlers import pin_setting
from agent.handlers.card_in_reader import CardInReaderHandler, Telling
from agent.handlers.physical_pin import PinWork
from agent.handlers.pin_at_pad import see_that_it_can_be_typed
from agent.handlers.token_pin import TokenPinWork
from agent.pin_rules import plain_rules
from protocol.messages import UnblockPin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.order_ports import OrderContext
    from protocol.messages import Message, Order


class UnblockPhysicalPinHandler(CardInReaderHandler[UnblockPin]):
    """The operation *unblock PIN*; see ``agent.order_ports.OrderHandler`` and ``GoesForward``."""

    kind = UnblockPin

    def _told(self, ordered: UnblockPin) -> Telling:
        see_that_it_can_be_typed(ordered)
        plain_rules(ordered.pin_policy)
        by = "You type its PUK" if ordered.puk == "typed" else "The portal tells the card its PUK"
        return Telling(
            "Unblock your card",
            (
                f"{by}, and you choose a new PIN; the old one is good no more.",
                "You need the card, and a reader. Keys and certificates stay as they are.",
            ),
            "The card is unblocked",
            "It has its new PIN.",
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt."""
        ordered = self._ordered(context.order)
        rules = plain_rules(ordered.pin_policy)
        work = PinWork if ordered.driver == "piv" else TokenPinWork
        await work(context, self._readers, ordered, rules, "PUK").carry_out(typed=ordered.puk == "typed")

    async def receipt_after(self, order: Order, steps: Sequence[tuple[str, str]]) -> Message | None:
        """See `agent.handlers.pin_setting.receipt_after`."""
        return await pin_setting.receipt_after(self._ordered(order).guid, steps)

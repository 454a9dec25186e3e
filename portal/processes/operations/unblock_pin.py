"""The operation *unblock PIN* of a physical card: a new PIN by the card's PUK; nothing is certified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.processes import card_letters
from portal.processes.operations.card_stays import CardStays
from protocol.messages import UnblockPin

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order


class UnblockPinOperation(CardStays[UnblockPin]):
    """See ``portal.processes.operation.OrderOperation``."""

    kind = UnblockPin
    action = "card.pin_unblocked"

    async def finish(self, context: Context, tx: AsyncSession, order: Order) -> None:
        """That its PIN was unblocked is in the card's history. No letter and no mail tells the PIN of before."""
        await super().finish(context, tx, order)
        await card_letters.end_pin(context, tx, self.ordered(order).card)

    async def undo(self, context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
        """A card that may have the new PIN has nothing that tells another one."""
        await card_letters.after_no_new_pin(context, tx, order, self.ordered(order).card, actor)

"""The operation *change PIN* of a card that is there: nothing is certified, and the portal never sees a PIN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.processes import card_letters
from portal.processes.operations.card_stays import CardStays
from protocol.messages import ChangePin

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import Consented


class ChangePinOperation(CardStays[ChangePin]):
    """See ``portal.processes.operation.OrderOperation``."""

    kind = ChangePin
    action = "card.pin_changed"

    def check_consent(self, order: Order, consented: Consented) -> None:
        """The card's keys are kept as they are: a device has nothing to say of them."""

    async def finish(self, context: Context, tx: AsyncSession, order: Order) -> None:
        """That its PIN was changed is in the card's history. No letter and no mail tells the PIN of before."""
        await super().finish(context, tx, order)
        await card_letters.end_pin(context, tx, self.ordered(order).card)

    async def undo(self, context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
        """A card that may have the new PIN has nothing that tells another one."""
        await card_letters.after_no_new_pin(context, tx, order, self.ordered(order).card, actor)

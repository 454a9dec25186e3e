"""The operation *change PUK* of a physical card: the portal draws another, and keeps what the card has in the end.

Until an order has ended well it keeps both (``puks``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portal.processes import card_letters, card_proof, management_keys, puks, tasks
from portal.processes.operations.card_stays import CardStays
from portal.processes.operations.existing_card import accept_receipt
from portal.store.tables import Card, Process
from protocol.messages import ChangePuk

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import Receipt

REPLACED: Final = "puk_replaced"
"""Process variable: whether the card has taken the new PUK."""


class ChangePukOperation(CardStays[ChangePuk]):
    """See ``portal.processes.operation.OrderOperation``."""

    kind = ChangePuk
    action = "card.puk_changed"

    async def check_receipt(self, context: Context, tx: AsyncSession, order: Order, receipt: Receipt) -> None:
        """Keep the PUK that the card has now."""
        ordered = self.ordered(order)
        card_proof.check(order)
        await accept_receipt(tx, ordered, receipt, may_replace_puk=True)
        card = await tx.get_one(Card, ordered.card)
        await puks.settle(context, tx, card, replaced=receipt.puk_replaced)
        await tasks.set_variables(tx, order, {REPLACED: receipt.puk_replaced})

    async def finish(self, context: Context, tx: AsyncSession, order: Order) -> None:
        """The card's history says whether it has another PUK now. No letter and no mail tells the one of before."""
        process = await tx.get_one(Process, order.process_id)
        if not process.variables[REPLACED]:
            await self.note(context, tx, order, "card.puk_kept")
            return
        await super().finish(context, tx, order)
        await card_letters.end_puk(context, tx, self.ordered(order).card)

    async def undo(self, context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
        """Once the device has said that the card is being changed nobody knows which of the two it has.

        Unless the card has refused the old one: then it has neither.
        """
        card = self.ordered(order).card
        managed = await management_keys.managed_card(context, tx, card)
        if puks.may_be_unsure(managed, order):
            await card_letters.end_puk(context, tx, card)

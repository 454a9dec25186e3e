"""The operation *delete virtual card*: the card ends here first, and goes from the computer once that is certain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.processes import deleted_cards, order_rows
from portal.processes.operations.existing_card import accept_receipt
from portal.store.tables import Card
from protocol.errors import InlayError
from protocol.messages import DeleteVirtualCard

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import Consented, Receipt, Requests


class DeleteVirtualCardOperation:
    """See ``portal.processes.operation.OrderOperation``."""

    def check_consent(self, order: Order, consented: Consented) -> None:
        """Nothing is kept any more."""

    async def register(self, context: Context, tx: AsyncSession, order: Order, requests: Requests) -> None:
        """It certifies nothing.

        Raises:
            InlayError: ``message_unexpected``.
        """
        raise InlayError("message_unexpected")

    async def check_receipt(self, context: Context, tx: AsyncSession, order: Order, receipt: Receipt) -> None:
        """The receipt must be of that very card."""
        await accept_receipt(tx, order_rows.parameters_as(order, DeleteVirtualCard), receipt)

    async def finish(self, context: Context, tx: AsyncSession, order: Order) -> None:
        """The CA is asked to revoke its certificates, and the card is Locked, unless it was at its end before."""
        card_id = order_rows.parameters_as(order, DeleteVirtualCard).card
        card = await tx.get_one(Card, card_id, with_for_update=True)
        await deleted_cards.end(tx, card, f"device:{order.device_jkt}", context.clock(), order=order.jti)

    async def undo(self, context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
        """Nothing was ended."""

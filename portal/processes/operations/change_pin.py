"""The operation *change PIN* of a card that is there: nothing is certified, and the portal never sees a PIN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.mail import outbox
from portal.processes import card_letters, order_rows
from portal.processes.operations.existing_card import accept_receipt
from portal.store import audit, objects
from portal.store.tables import Card
from protocol.errors import InlayError
from protocol.messages import ChangePin

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import Consented, Receipt, Requests


class ChangePinOperation:
    """See ``portal.processes.operation.OrderOperation``."""

    def check_consent(self, order: Order, consented: Consented) -> None:
        """The card's keys are kept as they are: a device has nothing to say of them."""

    async def register(self, context: Context, tx: AsyncSession, order: Order, requests: Requests) -> None:
        """It certifies nothing.

        Raises:
            InlayError: ``message_unexpected``.
        """
        raise InlayError("message_unexpected")

    async def check_receipt(self, context: Context, tx: AsyncSession, order: Order, receipt: Receipt) -> None:
        """The receipt must be of that very card. The PIN is changed by now: nothing else could still be refused."""
        await accept_receipt(tx, order_rows.parameters_as(order, ChangePin), receipt)

    async def finish(self, context: Context, tx: AsyncSession, order: Order) -> None:
        """The card stays as it is; that its PIN was changed is in its history."""
        card = await tx.get_one(Card, order_rows.parameters_as(order, ChangePin).card)
        await outbox.drop(tx, context, card.id, card_letters.PIN_MAIL)  # it tells the PIN of before
        await audit.record(
            tx,
            at=context.clock(),
            actor=f"device:{order.device_jkt}",
            action="card.pin_changed",
            kind=objects.kind_of(card).value,
            object_id=card.id,
            order=order.jti,
        )

    async def undo(self, context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
        """Nothing of it is valid or not."""

"""What the operations about PIN and PUK of a card have in common: nothing is certified, and the card stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from portal.processes import card_proof, order_rows
from portal.processes.operations.existing_card import accept_receipt
from portal.store import audit, objects
from portal.store.tables import Card
from protocol.errors import DecodeError, InlayError
from protocol.messages import BlockCard, ChangePin, ChangePuk, UnblockPin, VerifyPin

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import Consented, Receipt, Requests

Ordered = TypeVar("Ordered", bound="BlockCard | ChangePin | ChangePuk | UnblockPin | VerifyPin")


class CardStays(Generic[Ordered]):
    """See ``portal.processes.operation.OrderOperation``.

    Attributes:
        kind: the operation's parameters.
        action: what the card's history says of one that has won.
    """

    kind: type[Ordered]
    action: str

    def check_consent(self, order: Order, consented: Consented) -> None:
        """The card's keys are kept as they are."""
        if consented.storage is not None:
            raise DecodeError("params_invalid", "$.storage")

    async def register(self, context: Context, tx: AsyncSession, order: Order, requests: Requests) -> None:
        """It certifies nothing.

        Raises:
            InlayError: ``message_unexpected``.
        """
        raise InlayError("message_unexpected")

    async def check_receipt(self, context: Context, tx: AsyncSession, order: Order, receipt: Receipt) -> None:
        """The receipt must be of that very card. It is done by now: nothing else could still be refused."""
        card_proof.check(order)
        await accept_receipt(tx, self.ordered(order), receipt)

    async def finish(self, context: Context, tx: AsyncSession, order: Order) -> None:
        """What was done is in the card's history."""
        await self.note(context, tx, order, self.action)

    async def note(self, context: Context, tx: AsyncSession, order: Order, action: str) -> None:
        """Write into the card's history what the order's device has done."""
        card = await tx.get_one(Card, self.ordered(order).card)
        await audit.record(
            tx,
            at=context.clock(),
            actor=f"device:{order.device_jkt}",
            action=action,
            kind=objects.kind_of(card).value,
            object_id=card.id,
            order=order.jti,
        )

    async def undo(self, context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
        """Nothing of it is valid or not."""

    def ordered(self, order: Order) -> Ordered:
        """What an order asks for."""
        return order_rows.parameters_as(order, self.kind)

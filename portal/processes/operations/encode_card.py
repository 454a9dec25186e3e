"""The operation *encode card*: a card that is there gets new keys and certificates, its other keys stay.

Until the receipt is proved nothing changes for the card: its old certificates are good, and what was issued for the new
keys is revoked when the order is undone. Only then the old ones are revoked, as superseded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.model.states import VirtualSmartCardState
from portal.processes import card_certificates, order_rows, proofs, tasks
from portal.store import audit
from portal.store.tables import Card
from portal.store.transitions import is_final
from protocol.errors import DecodeError, InlayError
from protocol.messages import EncodeCard

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import Consented, Receipt, Requests


class EncodeCardOperation:
    """See ``portal.processes.operation.OrderOperation``."""

    def check_consent(self, order: Order, consented: Consented) -> None:
        """How the card is kept was settled when it was made."""
        if consented.storage is not None:
            raise DecodeError("params_invalid", "$.storage")

    async def register(self, context: Context, tx: AsyncSession, order: Order, requests: Requests) -> None:
        """The requests are of the card that was meant, and keys that were kept are its own."""
        card = await _card(tx, order)
        if (requests.guid, requests.serial) != (card.guid, card.serial) or requests.puk is not None:
            raise DecodeError("params_invalid", "$.guid")
        if card.state != VirtualSmartCardState.ACTIVE:
            raise InlayError("card_ended", state=card.state.lower())
        order.card_id = card.id
        await audit.record(
            tx,
            at=context.clock(),
            actor=f"device:{order.device_jkt}",
            action="card.encoding",
            kind=card.kind,
            object_id=card.id,
            order=order.jti,
        )

    async def check_receipt(self, context: Context, tx: AsyncSession, order: Order, receipt: Receipt) -> None:
        """Every new certificate's key has proved itself, on this card."""
        await order_rows.check_person(tx, order)
        card = await _card(tx, order)
        if receipt.guid != card.guid or receipt.storage is not None:
            raise DecodeError("params_invalid", "$.guid")
        if (
            card.state != VirtualSmartCardState.ACTIVE
        ):  # locked or replaced meanwhile: nothing of it becomes valid
            raise InlayError("card_ended", state=card.state.lower())
        await proofs.verify_receipt(context, tx, order, receipt)
        card.generation = max(card.generation, receipt.generation)

    async def finish(self, context: Context, tx: AsyncSession, order: Order) -> None:
        """The task has succeeded; what its keys had before is superseded.

        A card may have been replaced or deleted since the receipt was checked: then nothing becomes valid that stands
        on it. The order has won and ends all the same.
        """
        actor, now = f"device:{order.device_jkt}", context.clock()
        card = await _card(tx, order)
        if is_final(tx, card):
            await tasks.fail(context, tx, order, actor)
            return
        await tasks.succeed(context, tx, order, actor)
        slots = {item.slot for item in tasks.plan_of(order).certificates}
        await card_certificates.supersede(tx, card, order, slots, actor, now)
        card.valid_until, card.changed_at = max(card.valid_until, _ordered(order).valid_until), now
        await audit.record(
            tx,
            at=now,
            actor=actor,
            action="card.encoded",
            kind=card.kind,
            object_id=card.id,
            order=order.jti,
        )

    async def undo(self, context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
        """The task has failed; the card stays as it was."""
        await tasks.fail(context, tx, order, actor)


def _ordered(order: Order) -> EncodeCard:
    return order_rows.parameters_as(order, EncodeCard)


async def _card(tx: AsyncSession, order: Order) -> Card:
    return await tx.get_one(Card, _ordered(order).card, with_for_update=True, populate_existing=True)

"""The operation *unblock PIN* of a physical card: a new PIN by the card's PUK; nothing is certified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.processes import card_letters, order_rows, tasks
from portal.processes.operations.existing_card import accept_receipt
from portal.store import audit, objects
from portal.store.tables import Card
from protocol import codec, jose
from protocol.errors import DecodeError, InlayError
from protocol.messages import PublicJwk, UnblockPin

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import Consented, Receipt, Requests


class UnblockPinOperation:
    """See ``portal.processes.operation.OrderOperation``."""

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
        """The receipt must be of that very card. The PIN is set by now: nothing else could still be refused."""
        await accept_receipt(tx, order_rows.parameters_as(order, UnblockPin), receipt)

    async def finish(self, context: Context, tx: AsyncSession, order: Order) -> None:
        """The card stays as it is; that its PIN was unblocked is in its history. No letter tells another PIN."""
        card = await tx.get_one(Card, order_rows.parameters_as(order, UnblockPin).card)
        await audit.record(
            tx,
            at=context.clock(),
            actor=f"device:{order.device_jkt}",
            action="card.pin_unblocked",
            kind=objects.kind_of(card).value,
            object_id=card.id,
            order=order.jti,
        )
        await card_letters.forget(tx, card.id)

    async def undo(self, context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
        """Nothing of it is valid or not."""


async def puk_for(context: Context, tx: AsyncSession, order: Order) -> str | None:
    """The PUK of an order that unblocks by what the portal has, for the device alone; None for any other order.

    Returns:
        Compact JWE to the order's ephemeral key.

    Raises:
        InlayError: ``puk_not_in_escrow``.
    """
    ordered = order_rows.parameters(order)
    if not isinstance(ordered, UnblockPin) or ordered.puk != "escrow":
        return None
    card = await tx.get_one(Card, ordered.card)
    if card.kind not in tasks.PHYSICAL:
        raise InlayError("puk_not_in_escrow")
    recipient = codec.convert(order.encryption_key, PublicJwk, malformed="internal")
    if card.sealed_puk is None:
        token = jose.encrypt(context.factory.puk, recipient)
    else:
        puk = context.keys.unseal(card.sealed_puk, tasks.puk_label(card.id))
        try:
            token = jose.encrypt(puk, recipient)
        finally:
            puk[:] = bytes(len(puk))
    await audit.record(
        tx,
        at=context.clock(),
        actor=f"device:{order.device_jkt}",
        action="card.puk_delivered",
        kind=card.kind,
        object_id=card.id,
        order=order.jti,
    )
    return token

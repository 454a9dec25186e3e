"""A card's answer to its challenge (``CardProved``): noted, and what waited for it is sent. See ``card_proof``."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from portal.model.states import OrderState
from portal.processes import card_proof, management_keys, order_rows, outgoing, puks
from portal.store import audit
from portal.store.tables import Card, ManagedCard
from protocol.errors import InlayError
from protocol.messages import CardSecrets

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import CardProved


async def take(context: Context, jti: str, told: CardProved) -> None:
    """Take what a card has answered; the first time it is told what waited for it.

    Raises:
        InlayError: the order is to be undone with it: ``card_not_proved``: that is no answer to its challenge.
    """
    async with context.database.write() as tx:
        order = await order_rows.load(tx, jti)
        if order.state != OrderState.RUNNING:
            return
        known = order.card_challenge
        if known is None or known["number"] != told.number or not _is_right(known["expected"], told.response):
            raise InlayError("card_not_proved")
        if known["taken"]:
            return  # carried out before the portal stopped, and now again
        order.card_challenge = {**known, "taken": True}
        first, generation = card_proof.is_missing(order), known["generation"]
        if order.proved is None or generation > order.proved:
            await _note(context, tx, order, generation)
        if first:
            await order_rows.check_person(tx, order)
            puk = await puks.after_proof(context, tx, order)
            keys = await management_keys.new_keys(context, tx, order)
            own = await puks.new_puk(context, tx, order)
            waited = CardSecrets(puk=puk, management_keys=keys, new_puk=own.token, puk_unsure=own.unsure)
            await outgoing.send(context, tx, order, waited)


def _is_right(expected: str, response: bytes) -> bool:
    return hmac.compare_digest(bytes.fromhex(expected), hashlib.sha256(response).digest())


async def _note(context: Context, tx: AsyncSession, order: Order, generation: int) -> None:
    order.proved = generation
    if generation == 0 or order.card_id is None:
        return  # its maker's key is what every card of its kind has
    card = await tx.get_one(Card, order.card_id)
    managed = await tx.get_one(ManagedCard, card.id, with_for_update=True)
    managed.proved_at = context.clock()
    await audit.record(
        tx,
        at=context.clock(),
        actor=f"device:{order.device_jkt}",
        action="card.proved",
        kind=card.kind,
        object_id=card.id,
        order=order.jti,
        generation=generation,
    )

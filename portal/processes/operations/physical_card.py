"""What *encode card* does differently for a card in a reader: management key, identity, an end that is half done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.model.graphs import Why
from portal.model.states import TemporaryCardState
from portal.processes import attestation, card_certificates, management_keys, tasks
from portal.store.transitions import StateChange, change_state
from protocol.errors import DecodeError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Card, Order
    from protocol.messages import EncodeCard, Receipt


async def check_receipt(
    context: Context, tx: AsyncSession, card: Card, ordered: EncodeCard, receipt: Receipt
) -> None:
    """Note which management key the card has now.

    Raises:
        DecodeError: ``params_invalid``: a key was replaced that wasn't to be.
    """
    replaces = ordered.management is not None and ordered.management.replace is not None
    if receipt.management_replaced and not replaces:
        raise DecodeError("params_invalid", "$.management_replaced")
    if receipt.management_replaced:
        management_keys.settle(await management_keys.managed_card(context, tx, card.id), context.clock())


async def finish(context: Context, tx: AsyncSession, card: Card, order: Order, actor: str, now: int) -> None:
    """The card has the order's GUID and its holder's keys, and is good until the day that the order named."""
    managed = await management_keys.managed_card(context, tx, card.id)
    managed.encoded_for, managed.pending_guid, managed.changed_at = card.owner_id, None, now
    card.guid = order.parameters["guid"]
    await attestation.settle(tx, card, order, actor, now)
    change = StateChange(actor, now, Why.EXTENDED)
    await change_state(tx, card, TemporaryCardState.ASSIGNED, change, valid_until=card.valid_until)


async def half_done(context: Context, tx: AsyncSession, card: Card, order: Order, actor: str) -> None:
    """The card is Failed, unless it was taken from its holder meanwhile; what its keys had before is revoked."""
    now = context.clock()
    card.attested = False  # nobody knows which keys it has
    managed = await management_keys.managed_card(context, tx, card.id)
    if order.parameters["guid"] != card.guid:
        managed.pending_guid, managed.changed_at = order.parameters["guid"], now
    slots = {item.slot for item in tasks.plan_of(order).certificates}
    await card_certificates.supersede(tx, card, order, slots, actor, now)
    if card.state == TemporaryCardState.ASSIGNED:
        change = StateChange(actor, now, Why.ENCODING_FAILED)
        await change_state(tx, card, TemporaryCardState.FAILED, change, order=order.jti)

"""What *encode card* does differently for a card in a reader: management key, identity, an end that is half done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portal.model.graphs import Why
from portal.model.objects import ObjectKind
from portal.model.states import CardState, TemporaryCardState
from portal.processes import (
    attestation,
    card_certificates,
    card_letters,
    card_mails,
    card_orders,
    card_proof,
    cards,
    expiry_mails,
    management_keys,
    order_rows,
    puks,
    tasks,
)
from portal.processes.operations import prepared_card
from portal.store.tables import Process
from portal.store.transitions import StateChange, change_state
from protocol.errors import DecodeError
from protocol.messages import EncodeCard, KeySource

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Card, Order
    from protocol.messages import Receipt

_FAILED: Final = {
    (ObjectKind.CARD.value, CardState.APPROVED.value): (CardState.FAILED, Why.PRODUCTION_FAILED),
    (ObjectKind.TEMPORARY_CARD.value, TemporaryCardState.ASSIGNED.value): (
        TemporaryCardState.FAILED,
        Why.ENCODING_FAILED,
    ),
}
"""Kind and state of a card that was being changed to what it is then, and why."""


async def check_receipt(
    context: Context, tx: AsyncSession, card: Card, ordered: EncodeCard, receipt: Receipt
) -> None:
    """Note which management key and which PUK the card has now.

    Raises:
        DecodeError: ``params_invalid``: a key or a PUK was replaced that wasn't to be.
    """
    offered = [] if ordered.management is None else ordered.management.replace
    replaced = receipt.management_replaced
    if replaced is not None and replaced not in offered:
        raise DecodeError("params_invalid", "$.management_replaced")
    if receipt.puk_replaced and not ordered.new_puk:
        raise DecodeError("params_invalid", "$.puk_replaced")
    if ordered.new_puk:
        await puks.settle(context, tx, card, replaced=receipt.puk_replaced, reset=ordered.reset)
    if replaced is not None:
        managed = await management_keys.managed_card(context, tx, card.id)
        management_keys.settle(managed, replaced, context.clock())


async def finish(context: Context, tx: AsyncSession, card: Card, order: Order, actor: str, now: int) -> None:
    """The card has the order's GUID and its holder's keys, and is good until the day that the order named."""
    managed = await management_keys.managed_card(context, tx, card.id)
    await expiry_mails.forget(context, tx, card.id)
    managed.encoded_for, managed.pending_guid, managed.changed_at = card.owner_id, None, now
    managed.prepared_at = None
    card_proof.settle(managed, order)
    if card.driver != "pkcs11":
        card.guid = order.parameters["guid"]
    await attestation.settle(tx, card, order, actor, now)
    if card.kind == ObjectKind.TEMPORARY_CARD.value:
        change = StateChange(actor, now, Why.EXTENDED)
        await change_state(tx, card, TemporaryCardState.ASSIGNED, change, valid_until=card.valid_until)
        return
    change = StateChange(actor, now, Why.PRODUCED)
    await change_state(tx, card, CardState.ISSUED, change, valid_until=card.valid_until)
    process = await tx.get_one(Process, order.process_id)
    # a card that took no PUK of its own has its maker's, which no letter tells
    if process.variables["puk_delivery"] == cards.PRINT and card.sealed_puk is not None:
        await card_letters.keep_puk(context, tx, card.id, process)
    await card_mails.tell(context, tx, card, process)


def may_be_unchanged(order: Order) -> bool:
    """Whether a card can be as it was though it was to be changed: an order that gives certificates and nothing else.

    A device says so (``Undone.unchanged``); of any other order it isn't believed.
    """
    ordered = order_rows.parameters(order)
    if not isinstance(ordered, EncodeCard) or ordered.driver == "virtual":
        return False
    gives_more = ordered.steps or ordered.identity or ordered.clear or ordered.clear_retired or ordered.reset
    return not (gives_more or ordered.objects) and all(
        key.optional or key.source is KeySource.KEEP for key in ordered.keys
    )


async def half_done(context: Context, tx: AsyncSession, card: Card, order: Order, actor: str) -> None:
    """The card is Failed, unless it was taken from its holder meanwhile; what its keys had before is revoked."""
    now = context.clock()
    card.attested = False  # nobody knows which keys it has
    managed = await management_keys.managed_card(context, tx, card.id)
    if not order.parameters["keys"]:
        await prepared_card.half_done(tx, card, managed, order)
    if order.parameters.get("new_puk"):
        puks.may_be_unsure(managed, order)
    if order.parameters["guid"] != card_orders.guid_of(card):
        managed.pending_guid, managed.changed_at = order.parameters["guid"], now
    slots = {item.slot for item in tasks.plan_of(order).certificates}
    await card_certificates.supersede(tx, card, order, slots, actor, now)
    failed = _FAILED.get((card.kind, card.state))
    if not order.parameters["keys"] and card.state in prepared_card.STATES - {TemporaryCardState.FAILED}:
        failed = (TemporaryCardState.FAILED, Why.PRODUCTION_FAILED)
    if failed is not None:
        state, why = failed
        await change_state(tx, card, state, StateChange(actor, now, why), order=order.jti)

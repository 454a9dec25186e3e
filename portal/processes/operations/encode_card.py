"""The operation *encode card*: a card that is there gets new keys and certificates, its other keys stay.

Until the receipt is proved nothing changes for the card: its old certificates are good, and what was issued for the new
keys is revoked when the order is undone. Only then the old ones are revoked, as superseded. A physical card that was
being changed when its order was undone can't go back: it is Failed, what it had before is revoked, too, and a fresh
order finishes it (``physical_card``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portal.model.objects import ObjectKind
from portal.model.states import CardState, TemporaryCardState, VirtualSmartCardState
from portal.processes import (
    card_certificates,
    card_letters,
    card_proof,
    key_sources,
    order_rows,
    proofs,
    tasks,
    temporary_cards,
)
from portal.processes.operations import physical_card, prepared_card
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

_MAY_BE_ENCODED: Final = {
    ObjectKind.VIRTUAL_SMART_CARD.value: frozenset({VirtualSmartCardState.ACTIVE.value}),
    ObjectKind.CARD.value: frozenset({CardState.APPROVED.value, CardState.FAILED.value}),
    ObjectKind.TEMPORARY_CARD.value: frozenset(
        {TemporaryCardState.ASSIGNED.value, TemporaryCardState.FAILED.value}
    ),
}
"""Kind of card to the states in which it is encoded: asked at the requests, at the receipt and at the end."""


class EncodeCardOperation:
    """See ``portal.processes.operation.OrderOperation``."""

    def check_consent(self, order: Order, consented: Consented) -> None:
        """How the card is kept was settled when it was made."""
        if consented.storage is not None:
            raise DecodeError("params_invalid", "$.storage")

    async def register(self, context: Context, tx: AsyncSession, order: Order, requests: Requests) -> None:
        """The requests are of the card that was meant, and keys that were kept are its own."""
        card = await _card(tx, order)
        if requests.guid != _ordered(order).guid or requests.puk is not None:
            raise DecodeError("params_invalid", "$.guid")
        if requests.token != (card.serial if card.driver == "pkcs11" else None):
            raise DecodeError("params_invalid", "$.token")
        if not _is_that_serial(card, _ordered(order), requests.serial):
            raise DecodeError("params_invalid", "$.serial")
        _check_state(card, order)
        card_proof.check(order)
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
        if receipt.guid != _ordered(order).guid or receipt.storage is not None:
            raise DecodeError("params_invalid", "$.guid")
        if receipt.signature is not None:
            raise DecodeError("params_invalid", "$.signature")
        _check_state(card, order)  # locked, replaced or withdrawn meanwhile: nothing of it becomes valid
        await order_rows.check_holder(tx, order)
        failed = card.kind == ObjectKind.TEMPORARY_CARD.value and card.state == TemporaryCardState.FAILED
        if failed and _ordered(order).keys:  # without any it is nobody's
            await temporary_cards.check_only_one(tx, card)
        if _is_physical(order) and _ordered(order).keys:
            await key_sources.settle_taken(tx, order, receipt)
        await proofs.verify_receipt(context, tx, order, receipt)
        card.generation = max(card.generation, receipt.generation)
        if not _ordered(order).keys:
            await prepared_card.check_receipt(context, tx, card, order)
        if _is_physical(order):
            await physical_card.check_receipt(context, tx, card, _ordered(order), receipt)

    async def finish(self, context: Context, tx: AsyncSession, order: Order) -> None:
        """The task has succeeded; what its keys had before is superseded.

        A card may have been replaced or deleted since the receipt was checked: then nothing becomes valid that stands
        on it. The order has won and ends all the same.
        """
        actor, now = f"device:{order.device_jkt}", context.clock()
        card = await _card(tx, order)
        if is_final(tx, card) or (_is_physical(order) and not _may_be_encoded(card, order)):
            await tasks.fail(context, tx, order, actor)
            return
        if not _ordered(order).keys:
            await prepared_card.finish(context, tx, card, order, actor, now)
            return
        await tasks.succeed(context, tx, order, actor)
        slots = {item.slot for item in tasks.plan_of(order).certificates}
        await card_certificates.supersede(tx, card, order, slots, actor, now)
        card.valid_until, card.changed_at = max(card.valid_until, _ordered(order).valid_until), now
        if _is_physical(order):
            await physical_card.finish(context, tx, card, order, actor, now)
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
        """The task has failed; the card stays as it was, unless it is a physical one that was being changed."""
        await tasks.fail(context, tx, order, actor)
        await card_letters.forget_of(tx, order.process_id)
        if order.changing_at is not None and _is_physical(order):
            await physical_card.half_done(context, tx, await _card(tx, order), order, actor)


def _ordered(order: Order) -> EncodeCard:
    return order_rows.parameters_as(order, EncodeCard)


def _is_physical(order: Order) -> bool:
    return _ordered(order).driver != "virtual"


def _is_that_serial(card: Card, ordered: EncodeCard, told: str | None) -> bool:
    """A physical card may tell none, and what is printed on it may be something else than a decimal number.

    One that is known by the GUID that it has from this portal may tell another one: some give themselves one when they
    are reset.
    """
    if card.kind == ObjectKind.VIRTUAL_SMART_CARD.value:
        return told == card.serial
    if card.driver == "pkcs11":
        return told is None  # its serial number is another field
    by_guid = ordered.driver != "virtual" and ordered.identity is None
    return told is None or by_guid or not card.serial.isdecimal() or int(told) == int(card.serial)


def _may_be_encoded(card: Card, order: Order) -> bool:
    states = _MAY_BE_ENCODED[card.kind] if _ordered(order).keys else prepared_card.STATES
    return card.state in states


def _check_state(card: Card, order: Order) -> None:
    if not _may_be_encoded(card, order):
        raise InlayError("card_ended", state=card.state.lower())


async def _card(tx: AsyncSession, order: Order) -> Card:
    return await tx.get_one(Card, _ordered(order).card, with_for_update=True, populate_existing=True)

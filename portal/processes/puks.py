"""PUKs of physical cards: each card gets its own when it is first encoded, which the portal keeps sealed.

Until then a card has its maker's, which the portal is set up with. A card may be torn out while it takes its own: until
an order has ended well the portal keeps both, and says so to the device (``Proceed.puk_unsure``). A card may be given
another one later (*change PUK*), in the same way.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import select

from portal.model.objects import CoreObject
from portal.model.states import OrderState
from portal.processes import card_descriptions, card_pieces, card_serials, management_keys, order_rows, tasks
from portal.store import audit
from portal.store.tables import Card, ManagedCard, Order, Process
from protocol import codec, jose
from protocol.errors import InlayError
from protocol.messages import ChangePuk, EncodeCard, PublicJwk, UnblockPin

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context

_DIGITS: Final = 8
LENGTH: Final = "puk_length"
"""The process variable that tells how many digits a card's own PUK has; 8 where there is none."""
_WITH_PUK: Final = ("change_puk", "encode_card", "unblock_pin")
"""Operations that a card is told its PUK for."""
_NEITHER: Final = frozenset({"card_puk_other", "card_puk_wrong", "pkcs11_puk_wrong"})
"""Ends of an order by which the card has said itself that it has none of the PUKs that it was told."""
_REFUSED: Final = _NEITHER | {"card_puk_blocked"}
"""Ends by which it has said that it has taken no other PUK."""


class NewPuk(NamedTuple):
    """What an order brings its card.

    Attributes:
        token: compact JWE to the order's ephemeral key; None: it keeps the PUK that it has.
        unsure: an earlier order may have given it this one.
    """

    token: str | None = None
    unsure: bool = False


async def known_puk(context: Context, tx: AsyncSession, order: Order) -> str | None:
    """The PUK that an order needs of what the portal has, for the device alone; None where it needs none.

    An encoding's description names it as a field; the variable holds the descriptor of the card whose PUK is in escrow,
    never the PUK itself.

    Returns:
        Compact JWE to the order's ephemeral key.

    Raises:
        InlayError: ``puk_not_in_escrow``.
    """
    ordered = order_rows.parameters(order)
    if isinstance(ordered, ChangePuk | UnblockPin) and ordered.puk == "typed":
        return None
    if _waits_for_proof(order):
        return None
    return await _of_order(context, tx, order)


async def after_proof(context: Context, tx: AsyncSession, order: Order) -> str | None:
    """As `known_puk`, of an order whose card has proved itself: what waited for that."""
    return await _of_order(context, tx, order) if _waits_for_proof(order) else None


def _waits_for_proof(order: Order) -> bool:
    """Whether the PUK waits until the card has proved that it is the one: its own does, not its maker's."""
    ordered = order_rows.parameters(order)
    if isinstance(ordered, EncodeCard):
        return ordered.management is not None and ordered.management.proves and not ordered.reset
    if isinstance(ordered, ChangePuk | UnblockPin):
        return ordered.puk == "escrow" and ordered.management is not None and ordered.management.proves
    return False


async def _of_order(context: Context, tx: AsyncSession, order: Order) -> str | None:
    ordered = order_rows.parameters(order)
    if isinstance(ordered, ChangePuk | UnblockPin):
        card = await tx.get_one(Card, ordered.card)
        if card.kind not in tasks.PHYSICAL:
            raise InlayError("puk_not_in_escrow")
        return await _delivered(context, tx, order, card)
    return await _of_task(context, tx, order)


async def _of_task(context: Context, tx: AsyncSession, order: Order) -> str | None:
    """The PUK by which a task sets a card's new PIN."""
    if order.task is None or not tasks.plan_of(order).set_pin:
        return None
    reference = tasks.plan_of(order).puk
    if reference is None:
        return None
    if reference.startswith("#"):
        return jose.encrypt(reference[1:].encode(), _recipient(order))
    process = await tx.get_one(Process, order.process_id)
    held = process.variables.get(reference)
    card = await tx.get(Card, held.id) if isinstance(held, CoreObject) else None
    ordered = order_rows.parameters(order)
    makers = isinstance(ordered, EncodeCard) and (ordered.reset or await card_pieces.takes_another(tx, order))
    if card is not None and makers:
        return _encrypted(bytearray(context.factory.puk), order)
    if card is not None and card.sealed_puk is None and card.kind in tasks.PHYSICAL:
        return _encrypted(await _before_its_own(context, tx, card), order)
    holder = process.subject_id or order.user_id  # an operator issues a card for somebody else
    if card is None or card.sealed_puk is None or card.owner_id != holder:
        raise InlayError("puk_not_in_escrow")
    return await _delivered(context, tx, order, card)


async def _delivered(context: Context, tx: AsyncSession, order: Order, card: Card) -> str:
    """A card's own PUK, or its maker's as long as it has none; that it was given out is in the card's history."""
    if card.sealed_puk is None:
        puk = await _before_its_own(context, tx, card)
    else:
        puk = context.keys.unseal(card.sealed_puk, tasks.puk_label(card.id))
    token = _encrypted(puk, order)
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


async def _before_its_own(context: Context, tx: AsyncSession, card: Card) -> bytearray:
    """The PUK of a card that this portal has given none of its own; the caller wipes it.

    A token is used again: where an earlier card object, by now at its end, was given one, the token still has that.

    Raises:
        InlayError: ``card_description_missing``.
    """
    if card.driver != "pkcs11":
        return bytearray(context.factory.puk)
    query = select(Card).where(
        Card.driver == card.driver,
        Card.serial == card.serial,
        Card.described_by == card.described_by,
        Card.sealed_puk.is_not(None),
        card_serials.has_ended(),
    )
    earlier = (
        await tx.scalars(query.order_by(Card.created_at.desc(), Card.changed_at.desc()).limit(1))
    ).first()
    if earlier is not None and earlier.sealed_puk is not None:
        return context.keys.unseal(earlier.sealed_puk, tasks.puk_label(earlier.id))
    puk = card_descriptions.of(context, card).puk
    if puk is None:  # what was configured as such cards are PIV cards now
        raise InlayError("card_description_missing", name=card.described_by or "?")
    return bytearray(puk)


def _encrypted(puk: bytearray, order: Order) -> str:
    """Compact JWE to the order's ephemeral key; the PUK is wiped."""
    try:
        return jose.encrypt(puk, _recipient(order))
    finally:
        puk[:] = bytes(len(puk))


def _recipient(order: Order) -> PublicJwk:
    return codec.convert(order.encryption_key, PublicJwk, malformed="internal")


async def new_puk(context: Context, tx: AsyncSession, order: Order) -> NewPuk:
    """The PUK that an order gives its card, for the device alone.

    Noted before it leaves; an order that comes after one that ended badly brings the same again.
    """
    ordered = order_rows.parameters(order)
    gives = isinstance(ordered, ChangePuk) or (isinstance(ordered, EncodeCard) and ordered.new_puk)
    if not gives or not isinstance(ordered, ChangePuk | EncodeCard):
        return NewPuk()
    managed = await management_keys.managed_card(context, tx, ordered.card)
    label = tasks.puk_label(ordered.card)
    if await card_pieces.takes_another(tx, order):
        managed.pending_puk, managed.puk_unsure = None, False
    if managed.pending_puk is None:
        await _inherit(context, tx, managed)
    if managed.pending_puk is None:
        process = await tx.get_one(Process, order.process_id)
        drawn = _draw(process.variables.get(LENGTH, _DIGITS))
        try:
            managed.pending_puk, managed.changed_at = context.keys.seal(drawn, label), context.clock()
        finally:
            drawn[:] = bytes(len(drawn))
    puk = context.keys.unseal(managed.pending_puk, label)
    try:
        return NewPuk(jose.encrypt(puk, _recipient(order)), managed.puk_unsure)
    finally:
        puk[:] = bytes(len(puk))


async def _inherit(context: Context, tx: AsyncSession, managed: ManagedCard) -> None:
    """Take over what an earlier card object, by now at its end, may have left on a token that is used again."""
    card = await tx.get_one(Card, managed.card_id)
    if card.driver != "pkcs11" or card.sealed_puk is not None:
        return
    query = select(ManagedCard).join(Card, Card.id == ManagedCard.card_id)
    query = query.where(
        Card.driver == card.driver,
        Card.serial == card.serial,
        Card.described_by == card.described_by,
        Card.id != card.id,
        card_serials.has_ended(),
        ManagedCard.puk_unsure,
        ManagedCard.pending_puk.is_not(None),
    )
    left = (await tx.scalars(query.order_by(ManagedCard.changed_at.desc()).limit(1))).first()
    if left is None or left.pending_puk is None:
        return
    puk = context.keys.unseal(left.pending_puk, tasks.puk_label(left.card_id))
    try:
        managed.pending_puk = context.keys.seal(puk, tasks.puk_label(card.id))
    finally:
        puk[:] = bytes(len(puk))
    managed.puk_unsure, managed.changed_at = True, context.clock()
    left.pending_puk, left.puk_unsure = None, False  # one card has it, and settles it


async def settle(
    context: Context, tx: AsyncSession, card: Card, *, replaced: bool, reset: bool = False
) -> None:
    """The receipt has told which PUK the card has: the one that was sent, or as before because it takes none.

    Args:
        context: the portal.
        tx: the receipt's transaction.
        card: the card.
        replaced: it has the one that was sent.
        reset: the one of before is its maker's, whatever it was: its PIN was set by that.
    """
    managed = await management_keys.managed_card(context, tx, card.id)
    if replaced:
        card.sealed_puk = managed.pending_puk
    elif reset:
        card.sealed_puk = None
    managed.pending_puk, managed.puk_unsure, managed.changed_at = None, False, context.clock()


def may_be_unsure(managed: ManagedCard, order: Order) -> bool:
    """Note that nobody knows which PUK a card has, if so: its order ended badly, and its card was being changed.

    A card that has refused the PUK that it was told has not taken the other one; where that was unsure before, the
    device has tried both.
    """
    if order.changing_at is None or managed.pending_puk is None:
        return False
    code = None if order.error is None else order.error["error"]
    if code in _NEITHER:
        managed.puk_unsure = False
    if code in _REFUSED:
        return False
    managed.puk_unsure = True
    return True


async def refused(tx: AsyncSession, card: Card) -> bool:
    """Whether the card has refused the portal's PUK since it took one last."""
    query = select(Order.state, Order.error, Order.operation, Order.parameters).where(
        Order.card_id == card.id, Order.operation.in_(_WITH_PUK), Order.ended.is_not(None)
    )
    said_no = False
    for state, error, operation, ordered in await tx.execute(query.order_by(Order.ended)):
        if error is not None and error["error"] == "card_puk_other":
            said_no = True
        elif state == OrderState.FINISHED and (operation == "change_puk" or ordered.get("puk") != "typed"):
            said_no = False
    return said_no


def _draw(length: int) -> bytearray:
    return bytearray(ord("0") + secrets.randbelow(10) for _ in range(length))

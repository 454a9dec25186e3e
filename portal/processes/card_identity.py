"""Whether a card that is about to be encoded is another card of this portal (``IdentityQuestion``).

A card that is made ready for whoever gets it is any card that isn't: it is asked for by the GUID and the serial number
that it has, and its device waits for another one where it is (``CardIdentity.unnamed``).

A card that tells no serial number is told by the number that is printed on it, which a person reads. The one thing that
the portal can hold against that is the GUID that the card has: where it is another card object's, nothing is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import or_, select

from portal.model.states import OrderState
from portal.processes import card_serials, order_rows, outgoing
from portal.processes.card_pieces import TOLD_SERIAL
from portal.processes.management_keys import MOST_QUESTIONS
from portal.store import audit
from portal.store.tables import Card, ManagedCard, Process
from portal.store.transitions import is_final
from protocol.errors import DecodeError, InlayError
from protocol.messages import EncodeCard, IdentityAnswer

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import IdentityQuestion


async def answer(context: Context, jti: str, question: IdentityQuestion) -> None:
    """Say that the card may be encoded, once for each number.

    Raises:
        InlayError: the order is to be undone with it: ``card_of_other_object``; ``message_unexpected``: it doesn't
            leave to a person or to the portal which card it is; ``rate_limited``.
        DecodeError: ``params_invalid``.
    """
    async with context.database.write() as tx:
        order = await order_rows.load(tx, jti)
        if order.state != OrderState.RUNNING:
            return
        ordered = _asked(order, question)
        if question.number <= order.questions:
            return  # answered before
        order.questions = question.number
        await order_rows.check_person(tx, order)
        label = await _other_named(tx, ordered, question)
        if label is None:
            await _keep_picked(context, tx, order, ordered, question)
        await outgoing.send(context, tx, order, IdentityAnswer(number=question.number, label=label))


def _asked(order: Order, question: IdentityQuestion) -> EncodeCard:
    """What was ordered, of an order that has such a question.

    Raises:
        InlayError: ``message_unexpected``, ``rate_limited``.
    """
    ordered = order_rows.parameters(order)
    if not isinstance(ordered, EncodeCard) or ordered.identity is None:
        raise InlayError("message_unexpected")
    if not ordered.identity.unnamed and ordered.identity.printed is None:
        raise InlayError("message_unexpected")
    if question.number > MOST_QUESTIONS:
        raise InlayError("rate_limited")
    return ordered


async def _other_named(tx: AsyncSession, ordered: EncodeCard, question: IdentityQuestion) -> str | None:
    """The name of the other card that it is, where the device waits for another one then.

    Raises:
        InlayError: ``card_of_other_object``: it is another one, and a person has picked it.
        DecodeError: ``params_invalid``.
    """
    if ordered.identity is not None and ordered.identity.unnamed:
        return await _known_as(tx, question, but=ordered.card)
    if question.guid is None:
        raise DecodeError("params_invalid", "$.guid")
    if await _with_guid(tx, question.guid, but=ordered.card):
        raise InlayError("card_of_other_object", guid=question.guid)
    return None


async def _keep_picked(
    context: Context, tx: AsyncSession, order: Order, ordered: EncodeCard, question: IdentityQuestion
) -> None:
    """Keep, with the process and in the card's history, which card the device goes on with."""
    if ordered.identity is not None and ordered.identity.unnamed:
        await _keep_told(tx, order, question)
    card = await tx.get_one(Card, ordered.card)
    await audit.record(
        tx,
        at=context.clock(),
        actor=f"device:{order.device_jkt}",
        action="card.picked",
        kind=card.kind,
        object_id=card.id,
        order=order.jti,
        guid=question.guid or "",
    )


async def _known_as(tx: AsyncSession, question: IdentityQuestion, *, but: str) -> str | None:
    """The name of another card that has this GUID or serial number and hasn't come to its end."""
    if question.guid is not None and (other := await _with_guid(tx, question.guid, but=but)) is not None:
        return other
    return (
        None if question.serial is None else await card_serials.taken_by(tx, question.serial, "piv", but=but)
    )


async def _keep_told(tx: AsyncSession, order: Order, question: IdentityQuestion) -> None:
    """Keep with the process what the card told that its device goes on with."""
    process = await tx.get_one(Process, order.process_id, with_for_update=True)
    process.variables = {**process.variables, TOLD_SERIAL: question.serial}


async def _with_guid(tx: AsyncSession, guid: str, *, but: str) -> str | None:
    """The name of another card that has this GUID, or may have it, and hasn't come to its end."""
    query = (
        select(Card)
        .outerjoin(ManagedCard, ManagedCard.card_id == Card.id)
        .where(Card.id != but, or_(Card.guid == guid, ManagedCard.pending_guid == guid))
    )
    return next((card.label for card in await tx.scalars(query) if not is_final(tx, card)), None)

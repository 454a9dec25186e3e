"""Whether a card that a person has picked for its first encoding is another card of this portal (``IdentityQuestion``).

A card that tells no serial number is told by the number that is printed on it, which a person reads. The one thing that
the portal can hold against that is the GUID that the card has: where it is another card object's, nothing is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import or_, select

from portal.model.states import OrderState
from portal.processes import order_rows, outgoing
from portal.processes.management_keys import MOST_QUESTIONS
from portal.store import audit
from portal.store.tables import Card, ManagedCard
from portal.store.transitions import is_final
from protocol.errors import InlayError
from protocol.messages import EncodeCard, IdentityAnswer

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from protocol.messages import IdentityQuestion


async def answer(context: Context, jti: str, question: IdentityQuestion) -> None:
    """Say that the card may be encoded, once for each number.

    Raises:
        InlayError: the order is to be undone with it: ``card_of_other_object``; ``message_unexpected``: it doesn't
            leave to a person which card it is; ``rate_limited``.
    """
    async with context.database.write() as tx:
        order = await order_rows.load(tx, jti)
        if order.state != OrderState.RUNNING:
            return
        ordered = order_rows.parameters(order)
        if (
            not isinstance(ordered, EncodeCard)
            or ordered.identity is None
            or ordered.identity.printed is None
        ):
            raise InlayError("message_unexpected")
        if question.number > MOST_QUESTIONS:
            raise InlayError("rate_limited")
        if question.number <= order.questions:
            return  # answered before
        order.questions = question.number
        await order_rows.check_person(tx, order)
        if await _is_another(tx, question.guid, but=ordered.card):
            raise InlayError("card_of_other_object", guid=question.guid)
        card = await tx.get_one(Card, ordered.card)
        await audit.record(
            tx,
            at=context.clock(),
            actor=f"device:{order.device_jkt}",
            action="card.picked",
            kind=card.kind,
            object_id=card.id,
            order=order.jti,
            guid=question.guid,
        )
        await outgoing.send(context, tx, order, IdentityAnswer(number=question.number))


async def _is_another(tx: AsyncSession, guid: str, *, but: str) -> bool:
    """Whether another card has this GUID, or may have it, and hasn't come to its end."""
    query = (
        select(Card)
        .outerjoin(ManagedCard, ManagedCard.card_id == Card.id)
        .where(Card.id != but, or_(Card.guid == guid, ManagedCard.pending_guid == guid))
    )
    return any(not is_final(tx, card) for card in await tx.scalars(query))

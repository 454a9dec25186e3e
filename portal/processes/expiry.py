"""Cards whose days are over: Expired by themselves, and their certificates are revoked.

A temporary card that failed with its holder stays Failed: a fresh order still finishes it, and gives it other days.
What it has of certificates ends with the days that it had all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, func, not_, or_, select

from portal.ca.authority import Reason
from portal.events import DEADLINES
from portal.model import states
from portal.model.graphs import Why
from portal.model.states import CardState, OrderState, TemporaryCardState
from portal.processes import card_letters, certificates, expiry_mails, temporary_cards
from portal.store.tables import Card, Certificate, Order
from portal.store.transitions import StateChange, change_state
from protocol.messages import Purpose

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from portal.processes.context import Context

_EXPIRED: Final = {"temporary_card": TemporaryCardState.EXPIRED, "card": CardState.EXPIRED}
_FAILED: Final = ("temporary_card", TemporaryCardState.FAILED.value)
_UNDER_WAY: Final = (OrderState.RUNNING.value, OrderState.FINISHING.value)


class Expiry:
    """See ``portal.processes.alarm.Work``. A card that an order is working on waits for that order's end."""

    topic = DEADLINES

    def __init__(self, context: Context) -> None:
        self._context = context

    async def next_due(self) -> int | None:
        """When the next card's days are over."""
        async with self._context.database.read() as tx:
            query = select(func.min(Card.valid_until)).where(*_in_use(self._context))
            due: int | None = await tx.scalar(query)
        return due

    async def run_due(self) -> None:
        """Expire the cards whose days are over."""
        over_by_now = Card.valid_until <= self._context.clock()
        query = select(Card.id).where(*_in_use(self._context), over_by_now)
        async with self._context.database.read() as tx:
            over = list(await tx.scalars(query))
        for card_id in over:
            await self._expire(card_id)

    async def _expire(self, card_id: str) -> None:
        async with self._context.database.write() as tx:
            now = self._context.clock()
            still = select(Card).where(*_in_use(self._context), Card.id == card_id, Card.valid_until <= now)
            card = (await tx.scalars(still.with_for_update())).one_or_none()
            if card is None:  # extended, withdrawn or ordered meanwhile
                return
            if (card.kind, card.state) != _FAILED:
                change = StateChange("portal", now, Why.EXPIRED)
                await change_state(tx, card, _EXPIRED[card.kind], change)
            await card_letters.end(self._context, tx, card.id)
            await expiry_mails.forget(self._context, tx, card.id)
            await temporary_cards.end_certificates(tx, card, Reason.CESSATION_OF_OPERATION, "portal", now)


def _in_use(context: Context) -> tuple[ColumnElement[bool], ...]:
    worked_on = select(Order.card_id).where(Order.state.in_(_UNDER_WAY), Order.card_id.is_not(None))
    kind, failed = _FAILED
    return (
        or_(
            and_(Card.kind == kind, Card.state == TemporaryCardState.ASSIGNED.value),
            and_(Card.kind == kind, Card.state == failed, _has_good_certificates(context)),
            and_(Card.kind == "card", Card.state.in_(states.CARD.before(CardState.EXPIRED))),
        ),
        Card.id.not_in(worked_on),
    )


def _has_good_certificates(context: Context) -> ColumnElement[bool]:
    """That a card has certificates which nobody has asked the CA to revoke, and which aren't at their end."""
    graphs = context.database.model.certificates
    ended = (
        and_(Certificate.profile == purpose.value, Certificate.state.in_(graphs.graph(purpose.value).final))
        for purpose in Purpose
    )
    query = select(Certificate.id).where(
        certificates.is_of_card(), Certificate.revocation_reason.is_(None), not_(or_(*ended))
    )
    return query.correlate(Card).exists()

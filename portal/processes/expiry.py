"""Cards whose days are over: Expired by themselves, and their certificates are revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, func, or_, select

from portal.ca.authority import Reason
from portal.events import DEADLINES
from portal.model import states
from portal.model.graphs import Why
from portal.model.states import CardState, OrderState, TemporaryCardState
from portal.processes import card_letters, expiry_mails, temporary_cards
from portal.store.tables import Card, Order
from portal.store.transitions import StateChange, change_state

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from portal.processes.context import Context

_EXPIRED: Final = {"temporary_card": TemporaryCardState.EXPIRED, "card": CardState.EXPIRED}
_UNDER_WAY: Final = (OrderState.RUNNING.value, OrderState.FINISHING.value)


class Expiry:
    """See ``portal.processes.alarm.Work``. A card that an order is working on waits for that order's end."""

    topic = DEADLINES

    def __init__(self, context: Context) -> None:
        self._context = context

    async def next_due(self) -> int | None:
        """When the next card's days are over."""
        async with self._context.database.read() as tx:
            due: int | None = await tx.scalar(select(func.min(Card.valid_until)).where(*_in_use()))
        return due

    async def run_due(self) -> None:
        """Expire the cards whose days are over."""
        query = select(Card.id).where(*_in_use(), Card.valid_until <= self._context.clock())
        async with self._context.database.read() as tx:
            over = list(await tx.scalars(query))
        for card_id in over:
            await self._expire(card_id)

    async def _expire(self, card_id: str) -> None:
        async with self._context.database.write() as tx:
            now = self._context.clock()
            still = select(Card).where(*_in_use(), Card.id == card_id, Card.valid_until <= now)
            card = (await tx.scalars(still.with_for_update())).one_or_none()
            if card is None:  # extended, withdrawn or ordered meanwhile
                return
            change = StateChange("portal", now, Why.EXPIRED)
            await change_state(tx, card, _EXPIRED[card.kind], change)
            await card_letters.end(self._context, tx, card.id)
            await expiry_mails.forget(self._context, tx, card.id)
            await temporary_cards.end_certificates(tx, card, Reason.CESSATION_OF_OPERATION, "portal", now)


def _in_use() -> tuple[ColumnElement[bool], ...]:
    worked_on = select(Order.card_id).where(Order.state.in_(_UNDER_WAY), Order.card_id.is_not(None))
    return (
        or_(
            and_(Card.kind == "temporary_card", Card.state == TemporaryCardState.ASSIGNED.value),
            and_(Card.kind == "card", Card.state.in_(states.CARD.before(CardState.EXPIRED))),
        ),
        Card.id.not_in(worked_on),
    )

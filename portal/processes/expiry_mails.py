"""Mails to who has a temporary card whose days are nearly over: on some days before, then every day.

Which day was told last is stored with the mail. After a time in which the portal didn't run one mail tells where it
stands; days that went by are not caught up with. A day counts when it comes after the card was assigned or extended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from sqlalchemy import func, select

from portal import option_store
from portal.events import EXPIRY_MAILS
from portal.mail import outbox
from portal.model.card_options import TEMPORARY_CARDS
from portal.model.states import TemporaryCardState
from portal.processes.days import date_text
from portal.store import objects
from portal.store.database import notify
from portal.store.tables import Card, ExpiryNotice, User

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context

KIND: Final = "card_expiry"
_DAY: Final = 86_400
_ASSIGNED: Final = (
    Card.kind == "temporary_card",
    Card.state == TemporaryCardState.ASSIGNED.value,
)


class ExpiryMails:
    """See ``portal.processes.alarm.Work``. A portal without a mail server makes none."""

    topic = EXPIRY_MAILS

    def __init__(self, context: Context) -> None:
        self._context = context

    async def next_due(self) -> int | None:
        """When the next card comes to one of its days."""
        if not self._context.mails:
            return None
        now = self._context.clock()
        async with self._context.database.read() as tx:
            days = await _days(tx)
            near = select(Card.valid_until).where(*_ASSIGNED, Card.valid_until > now)
            ends = await tx.scalars(near.where(Card.valid_until <= now + days[0] * _DAY))
            coming = [end - day * _DAY for end in ends for day in days if end - day * _DAY > now]
            far = select(func.min(Card.valid_until)).where(
                *_ASSIGNED, Card.valid_until > now + days[0] * _DAY
            )
            first: int | None = await tx.scalar(far)
        return min([*coming, *([] if first is None else [first - days[0] * _DAY])], default=None)

    async def run_due(self) -> None:
        """Make the mails of the cards that have come to one of their days."""
        if not self._context.mails:
            return
        now = self._context.clock()
        async with self._context.database.read() as tx:
            days = await _days(tx)
            near = select(Card, ExpiryNotice).outerjoin(ExpiryNotice, ExpiryNotice.card_id == Card.id)
            near = near.where(*_ASSIGNED, Card.valid_until > now, Card.valid_until <= now + days[0] * _DAY)
            rows = [(card, notice) for card, notice in await tx.execute(near)]
        for card, notice in rows:
            if _due(card, notice, days, now) is not None:
                await self._tell(card.id)

    async def _tell(self, card_id: str) -> None:
        """Unless the card was extended, withdrawn or told about meanwhile."""
        async with self._context.database.write() as tx:
            now, days = self._context.clock(), await _days(tx)
            query = select(Card).where(*_ASSIGNED, Card.id == card_id, Card.valid_until > now)
            card = (await tx.scalars(query.with_for_update())).one_or_none()
            if card is None:
                return
            notice = await tx.get(ExpiryNotice, card_id, with_for_update=True)
            day = _due(card, notice, days, now)
            if day is None:
                return
            if notice is None:
                notice = ExpiryNotice(card_id=card_id)
                tx.add(notice)
            notice.valid_until, notice.days_before, notice.mailed_at = card.valid_until, day, now
            await self._add(tx, card, now)

    async def _add(self, tx: AsyncSession, card: Card, now: int) -> None:
        holder = await tx.get_one(User, card.owner_id)
        await outbox.drop(tx, self._context, card.id, KIND)  # one from yesterday that wasn't sent yet
        await outbox.add(
            tx,
            self._context,
            outbox.Draft(
                to=holder,
                kind=KIND,
                subject="Your temporary card expires soon",
                text=(
                    f"{holder.name},\n\nyour temporary card {card.label} (serial number {card.serial}) is valid until\n"
                    f"{date_text(card.valid_until)}. After that it can't be used any more.\n\n"
                    f"If you need it longer, have it extended before that day. If not, give it back.\n\n"
                    f"{self._context.origin}\n"
                ),
                about=objects.describe(card),
                until=min(card.valid_until, now + _DAY),
            ),
        )


async def forget(context: Context, tx: AsyncSession, card_id: str) -> None:
    """The card was extended or taken back: a mail that waits isn't right any more."""
    await outbox.drop(tx, context, card_id, KIND)
    notify(tx, EXPIRY_MAILS)


async def _days(tx: AsyncSession) -> Sequence[int]:
    """Days before the end, largest first, down to the last one."""
    values = (await option_store.current(tx, TEMPORARY_CARDS)).values
    named = [int(day) for day in cast("list[str]", values["TempCardsEmailBeforeExpiringDays"])]
    return sorted({*named, *range(1, min(named))}, reverse=True)


def _due(card: Card, notice: ExpiryNotice | None, days: Sequence[int], now: int) -> int | None:
    """The day that a card's holder is to be told of now; None: none, or it was told."""
    reached = [day for day in days if card.changed_at < card.valid_until - day * _DAY <= now]
    if not reached:
        return None
    told = notice is not None and notice.valid_until == card.valid_until and notice.days_before <= reached[-1]
    return None if told else reached[-1]

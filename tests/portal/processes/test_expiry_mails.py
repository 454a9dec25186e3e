"""Mails before a temporary card's end: when not, then on which days, and once on each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.config import Mail as MailConfig
from portal.model.states import Role, TemporaryCardState, VirtualSmartCardState
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.processes.lock_temporary_card import LockTemporaryCard
from portal.processes.withdraw_temporary_card import WithdrawTemporaryCard
from portal.store.tables import AuditEntry, Card, Mail
from portal.views import ObjectRef
from tests.support.databases import BACKENDS
from tests.support.portal_kit import running_portal
from tests.support.stored_objects import put_card

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from portal.processes.definition import Definition
    from portal.views import Session
    from tests.support.portal_kit import Kit

DAY = 86_400
AWAY = MailConfig(host="127.0.0.1", sender="portal@example.org", port=1)


@pytest.fixture
async def mailing(tmp_path: Path, database_url: str) -> AsyncIterator[Kit]:
    """A portal with a mail server that is away; the test alone runs its work."""
    async with running_portal(tmp_path, database=database_url, mail=AWAY) as running:
        await running.portal.pause()
        yield running


async def assigned(kit: Kit, holder: Session, days: int = 14) -> str:
    """A temporary card that was just assigned for some days."""
    key = await put_card(kit, holder, VirtualSmartCardState.ACTIVE)
    async with kit.database.write() as tx:
        card = await tx.get_one(Card, key)
        card.kind, card.state = "temporary_card", TemporaryCardState.ASSIGNED.value
        card.valid_until = kit.clock() + days * DAY
    return key


async def made(kit: Kit, after: float = 0) -> int:
    """How many mails were made until now, when so many days have gone by."""
    kit.clock.now += int(after * DAY)
    await kit.portal.expiry_mails.run_due()
    async with kit.database.read() as tx:
        return len(list(await tx.scalars(select(AuditEntry).where(AuditEntry.action == "mail.added"))))


async def waiting(kit: Kit) -> list[Mail]:
    async with kit.database.read() as tx:
        return list(await tx.scalars(select(Mail)))


async def test_a_portal_without_mail_makes_none(kit: Kit) -> None:
    await assigned(kit, await kit.person())
    assert await made(kit, 13) == 0
    assert await kit.portal.expiry_mails.next_due() is None


async def test_no_mail_of_a_day_that_was_over_when_the_card_was_assigned(mailing: Kit) -> None:
    await assigned(mailing, await mailing.person(), days=7)
    assert await made(mailing) == 0
    assert await made(mailing, 2) == 0
    assert await made(mailing, 2) == 1


@pytest.mark.parametrize("end", [WithdrawTemporaryCard, LockTemporaryCard, ExtendTemporaryCard])
async def test_a_mail_that_waits_is_dropped_when_it_isnt_so_any_more(
    mailing: Kit, end: type[Definition]
) -> None:
    kit, ada = mailing, await mailing.person()
    card = await assigned(kit, ada)
    assert await made(kit, 7) == 1
    (mail,) = await waiting(kit)
    assert (mail.address, mail.about_id) == ("ada@example.org", card)
    olga = await kit.person("olga@example.org", [Role.OPERATOR])
    view = await kit.services.start_process(olga, end.name, ObjectRef("temporary_card", card))
    form = {} if end is ExtendTemporaryCard else {"Reason": ["brought back"]}
    await kit.services.next(olga, view.id, view.version, form)
    assert await waiting(kit) == []
    assert await made(kit, 4) == 1


async def test_none_after_the_end(mailing: Kit) -> None:
    await assigned(mailing, await mailing.person())
    assert await made(mailing, 14) == 0
    assert await mailing.portal.expiry_mails.next_due() is None


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
async def test_on_the_days_of_the_option_then_every_day_once_each(mailing: Kit) -> None:
    kit = mailing
    await assigned(kit, await kit.person())
    start = kit.clock()
    days = []
    while (due := await kit.portal.expiry_mails.next_due()) is not None:
        days.append((due - start) // DAY)
        kit.clock.now = due - 1
        assert await made(kit) == len(days) - 1
        kit.clock.now = due
        assert await made(kit) == await made(kit, 0.4) == len(days)
        assert len(await waiting(kit)) == 1
    assert days == [7, 11, 12, 13]


async def test_after_a_time_without_the_portal_one_mail_tells_where_it_stands(mailing: Kit) -> None:
    await assigned(mailing, await mailing.person())
    assert await made(mailing, 12.5) == 1
    assert await made(mailing, 0.3) == 1
    assert await made(mailing, 0.3) == 2

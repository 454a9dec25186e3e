"""Letters and mails with the PIN and PUK of a card that is issued: whom they are for, how long, and how often."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text

from portal.errors import NotFound
from portal.mail import outbox
from portal.model.states import ProcessState, Role, UserState
from portal.processes import card_letters, tasks
from portal.processes.activate_card import ActivateCard
from portal.processes.lock_card import LockCard
from portal.store.tables import AuditEntry, Card
from portal.store.tables import Mail as Row
from protocol.errors import InlayError
from tests.support import issued_cards as cards
from tests.support.databases import BACKENDS
from tests.support.issue_stage import ada, cancel, mailing, people, refused, told, undone
from tests.support.issued_cards import Begun, Staff
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit

__all__ = ["ada", "mailing", "people"]
on_both = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


# --- letters


async def at_letters(kit: Kit, people: Staff, ada: Session) -> tuple[str, Begun, ProcessView]:
    card, work = await cards.issued(kit, people, ada)
    return card, work, await kit.services.process(people.olga, work.view.id)


async def test_no_letter_before_the_card_is_issued(kit: Kit, people: Staff, ada: Session) -> None:
    card = await cards.approved(kit, people, ada)
    work = await cards.begun(kit, people.olga, card)
    assert (await kit.services.process(people.olga, work.view.id)).letters == ()
    assert await refused(kit.services.letter(people.olga, work.view.id, "pin")) == "letter_gone"


async def test_a_letter_is_for_who_produced_the_card_and_nobody_else(
    kit: Kit, people: Staff, ada: Session
) -> None:
    _, _, view = await at_letters(kit, people, ada)
    other = await kit.person("otto@example.org", [Role.OPERATOR, Role.APPROVER, Role.ADMINISTRATOR])
    for who in (other, ada, people.paul, people.root):
        with pytest.raises(NotFound):
            await kit.services.letter(who, view.id, "pin")
    await kit.portal.accounts.set_state("olga@example.org", UserState.INACTIVE)
    assert await refused(kit.services.letter(people.olga, view.id, "pin")) == "user_not_active"
    assert (await cards.letters(kit))[0].prints == 0


@on_both
async def test_a_letter_is_printed_a_few_times_and_each_is_in_the_audit_log(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card, work, view = await at_letters(kit, people, ada)
    for _ in range(card_letters.MOST_PRINTS):
        assert work.pin in told(await kit.services.letter(people.olga, view.id, "pin"))
    assert await refused(kit.services.letter(people.olga, view.id, "pin")) == "letter_used_up"
    assert await refused(kit.services.letter(people.olga, view.id, "puk")) == "letter_gone"
    async with kit.database.read() as tx:
        rows = list(await tx.scalars(select(AuditEntry).where(AuditEntry.action == "card.pin_letter")))
    assert [(row.actor, row.object_id, row.details["prints"]) for row in rows] == [
        ("olga@example.org", card, number) for number in (1, 2, 3)
    ]


@on_both
@pytest.mark.parametrize("end", ["said", "locked"])
async def test_the_page_hears_of_each_print_and_that_there_are_no_more_letters(
    kit: Kit, people: Staff, ada: Session, end: str
) -> None:
    card, _, view = await at_letters(kit, people, ada)
    heard = kit.services.letters(people.olga, view.id)
    async with asyncio.timeout(10):
        assert [letter.standing for letter in await anext(heard)] == ["Not printed yet"]
        following = asyncio.ensure_future(anext(heard))
        await kit.services.letter(people.olga, view.id, "pin")
        assert [letter.standing for letter in await following] == ["Printed 1 time; 2 more possible"]
        over = asyncio.ensure_future(anext(heard, None))
        if end == "said":
            view = await kit.services.process(people.olga, view.id)
            await kit.services.next(people.olga, view.id, view.version)
        else:
            await cards.step(kit, people.olga, LockCard.name, card, {"Reason": ["stolen"]})
        assert await over is None


@on_both
async def test_the_pin_is_gone_from_the_database_once_its_letter_is_delivered(
    kit: Kit, people: Staff, ada: Session
) -> None:
    _, _, view = await at_letters(kit, people, ada)
    assert await refused(kit.services.next(people.olga, view.id, view.version)) == "letter_not_printed"
    await kit.services.letter(people.olga, view.id, "pin")
    view = await kit.services.process(people.olga, view.id)
    view = await kit.services.next(people.olga, view.id, view.version)
    assert view.state is ProcessState.FINISHED
    assert await cards.letters(kit) == []
    assert await refused(kit.services.letter(people.olga, view.id, "pin")) == "letter_gone"


@on_both
@pytest.mark.parametrize("end", ["activated", "locked", "expired", "cancelled"])
async def test_a_card_that_isnt_issued_any_more_has_no_letters(
    kit: Kit, people: Staff, ada: Session, end: str
) -> None:
    card, work, view = await at_letters(kit, people, ada)
    match end:
        case "activated":
            await cards.activate(kit, ada, card, work)
        case "locked":
            await cards.step(kit, people.olga, LockCard.name, card, {"Reason": ["stolen"]})
        case "expired":
            kit.clock.now += 731 * 86_400
            await kit.portal.expiry.run_due()
            people = people._replace(olga=await kit.login("olga@example.org"))
            assert await state_of_card(kit, card) == "Expired"
        case _:
            await kit.services.cancel(people.olga, view.id)
    assert await refused(kit.services.letter(people.olga, view.id, "pin")) == "letter_gone"
    assert await cards.letters(kit) == []


async def test_the_pin_is_nowhere_readable(
    kit: Kit, people: Staff, ada: Session, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in any table, not in the log, and sealed while it waits; another card's seal doesn't open."""
    caplog.set_level("DEBUG")
    card, work, view = await at_letters(kit, people, ada)
    await kit.services.letter(people.olga, view.id, "pin")
    (letter,) = await cards.letters(kit)
    assert letter.sealed is not None
    with pytest.raises(InlayError):
        kit.portal.keys.unseal(letter.sealed, tasks.puk_label(card))
    async with kit.database.read() as tx:
        for table in Card.metadata.sorted_tables:
            stored = repr((await tx.execute(text(f"SELECT * FROM {table.name}"))).all())  # noqa: S608
            assert f"'{work.pin}'" not in stored
            assert f'"{work.pin}"' not in stored
    assert work.pin not in caplog.text.replace(card, "")


async def test_told_to_nobody_the_pin_is_not_even_stored(kit: Kit, people: Staff, ada: Session) -> None:
    await cards.options(kit, people.root, CardsPINDelivery=["nopin"], CardsPUKDelivery=["print"])
    card = await cards.approved(kit, people, ada)
    work = await cards.begun(kit, people.olga, card)
    assert len(work.pin) == 6
    assert await cards.letters(kit) == []
    await cards.complete(work)
    assert "pin" not in {letter.kind for letter in await cards.letters(kit)}


async def test_the_puk_letter_tells_the_puk_that_the_card_has(kit: Kit, people: Staff, ada: Session) -> None:
    await cards.options(kit, people.root, CardsPUKDelivery=["print"])
    card = await cards.approved(kit, people, ada)
    async with kit.database.write() as tx:  # an earlier order gave it one of its own
        row = await tx.get_one(Card, card)
        row.sealed_puk = kit.portal.keys.seal(b"93847561", tasks.puk_label(card))
    work = await cards.begun(kit, people.olga, card)
    assert work.proceed.puk is not None
    assert bytes(work.agent.ephemeral.decrypt(work.proceed.puk)) == b"93847561"
    await cards.complete(work)
    view = await kit.services.process(people.olga, work.view.id)
    assert [(letter.kind, letter.left) for letter in view.letters] == [("pin", 3), ("puk", 3)]
    puk = kit.portal.keys.unseal((await sealed(kit, card)), tasks.puk_label(card)).decode()
    shown = told(await kit.services.letter(people.olga, view.id, "puk"))
    assert puk in shown
    assert work.pin not in shown


async def sealed(kit: Kit, card: str) -> bytes:
    """The card's PUK as stored."""
    found = (await cards.card_row(kit, card)).sealed_puk
    assert found is not None
    return found


async def test_a_name_that_the_fonts_have_not_leaves_the_address(kit: Kit, people: Staff) -> None:
    await kit.portal.accounts.add(
        "lukasz@example.org", "\u0141ukasz", "correct horse battery", [Role.SELF_SERVICE]
    )
    _, work, view = await at_letters(kit, people, await kit.login("lukasz@example.org"))
    shown = told(await kit.services.letter(people.olga, view.id, "pin"))
    assert "lukasz@example.org" in shown
    assert work.pin in shown


# --- mails


async def mails(kit: Kit) -> list[Row]:
    async with kit.database.read() as tx:
        return list(await tx.scalars(select(Row).order_by(Row.kind)))


def text_of(kit: Kit, mail: Row) -> str:
    assert mail.sealed is not None
    return kit.portal.context.keys.unseal(mail.sealed, outbox.label(mail.id)).decode()


async def test_no_mail_before_the_card_is_issued_and_none_when_it_is_undone(mailing: Kit) -> None:
    kit, people = mailing, await cards.staff(mailing)
    await cards.options(kit, people.root, CardsPINDelivery=["email"], CardsPUKDelivery=["email"])
    card = await cards.approved(kit, people, await kit.person())
    work = await cards.begun(kit, people.olga, card)
    assert [letter.kind for letter in await cards.letters(kit)] == ["pin"]
    assert await mails(kit) == []
    await cancel(kit, people, work)
    await undone(work)
    assert (await cards.letters(kit), await mails(kit)) == ([], [])


@on_both
async def test_pin_and_puk_are_two_sealed_mails_and_gone_with_the_card(mailing: Kit) -> None:
    kit, people = mailing, await cards.staff(mailing)
    await cards.options(kit, people.root, CardsPINDelivery=["email"], CardsPUKDelivery=["email"])
    ada = await kit.person()
    card, work = await cards.issued(kit, people, ada)
    pin, puk = await mails(kit)
    assert (pin.kind, puk.kind, pin.address, pin.plain) == ("card_pin", "card_puk", "ada@example.org", None)
    assert work.pin in text_of(kit, pin)
    assert work.pin not in text_of(kit, puk)
    assert await cards.letters(kit) == []
    assert await refused(kit.services.letter(people.olga, work.view.id, "pin")) == "letter_gone"
    view = await kit.services.process(people.olga, work.view.id)
    assert (await kit.services.next(people.olga, view.id, view.version)).state is ProcessState.FINISHED
    await cards.step(kit, ada, ActivateCard.name, card)
    assert len(await mails(kit)) == 2
    await cards.step(kit, people.olga, LockCard.name, card, {"Reason": ["stolen"]})
    assert await mails(kit) == []

"""Issue a card: what is refused, half done, whom its letters are for and how long; then as it should go."""

from __future__ import annotations

import re
import zlib
from base64 import a85decode
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text

from portal.config import Mail
from portal.errors import FieldErrors, NotFound, WrongState
from portal.mail import outbox
from portal.model.states import ProcessState, Role, UserState
from portal.processes import card_letters, card_pins, key_sources, order_rows, tasks
from portal.processes.abort_card import AbortCard
from portal.processes.activate_card import ActivateCard
from portal.processes.lock_card import LockCard
from portal.store.tables import ArchivedKey, AuditEntry, Card, Certificate, ManagedCard, ObjectRelation
from portal.store.tables import Mail as Row
from portal.views import ObjectRef
from protocol.errors import InlayError
from protocol.messages import (
    Algorithm,
    CardStep,
    CertificateRequest,
    Changing,
    KeyCount,
    KeySource,
    Progress,
    Receipt,
    Requests,
    Undo,
    Undone,
)
from protocol.messages import Step as OrderStep
from tests.support import issued_cards as cards
from tests.support.databases import BACKENDS
from tests.support.issued_cards import ISSUE, SERIAL, Begun, Staff
from tests.support.portal_kit import running_portal
from tests.support.software_agent import make_key, public_der
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit

AWAY = Mail(host="127.0.0.1", sender="portal@example.org", port=1)
on_both = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


@pytest.fixture
async def people(kit: Kit) -> Staff:
    """Administrator, operator, approver."""
    return await cards.staff(kit)


@pytest.fixture
async def ada(kit: Kit) -> Session:
    """Who gets the card."""
    return await kit.person()


@pytest.fixture
async def mailing(tmp_path: Path, database_url: str) -> AsyncIterator[Kit]:
    """A portal with a mail server that is away."""
    async with running_portal(tmp_path, database=database_url, mail=AWAY) as running:
        yield running


async def refused(waited: Any) -> str:
    """The code with which something is refused."""
    with pytest.raises(InlayError) as caught:
        await waited
    return caught.value.code


async def undone(work: Begun) -> str:
    """The portal undoes the order; its cause. The device agrees."""
    undo = await work.agent.hear()
    assert isinstance(undo, Undo), undo
    await work.agent.say(Undone(error=undo.error))
    return undo.error.error


async def carried_out(kit: Kit, work: Begun) -> None:
    """Wait until the portal has done what the device's messages ask for."""
    assert work.agent.order is not None
    await kit.portal.incoming.carry_out_now(work.agent.order.jti)


async def cancel(kit: Kit, people: Staff, work: Begun) -> None:
    await kit.services.cancel(people.olga, work.view.id)


def told(pdf: bytes) -> str:
    """What stands in a letter."""
    assert pdf.startswith(b"%PDF-")
    streams = re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL)
    found = b"".join(
        zlib.decompress(a85decode(item.strip(), adobe=False))
        if item.strip().endswith(b"~>") is False
        else zlib.decompress(a85decode(b"<~" + item.strip(), adobe=True))
        for item in streams
    )
    return "\n".join(item.decode("latin-1") for item in re.findall(rb"\((.*?)\) Tj", found))


# --- the PIN


@pytest.mark.parametrize(
    "pin",
    [
        b"000000",
        b"112345",
        b"582246",
        b"123456",
        b"765432",
        b"581236",
        b"904321",
        b"272727",
        b"394394",
        b"84848484",
    ],
)
def test_pins_that_are_tried_first_are_trivial(pin: bytes) -> None:
    assert card_pins.trivial(pin)


@pytest.mark.parametrize("pin", [b"283917", b"135790", b"9081726", b"12457815"])
def test_other_pins_are_not(pin: bytes) -> None:
    assert not card_pins.trivial(pin)


def test_drawn_pins_are_digits_of_their_length_and_differ() -> None:
    drawn = {bytes(card_pins.draw(8)) for _ in range(200)}
    assert len(drawn) > 190
    assert all(len(pin) == 8 and pin.isdigit() and not card_pins.trivial(pin) for pin in drawn)


# --- refused at the start


@on_both
async def test_not_before_it_is_approved_and_not_after_it_was_rejected(
    kit: Kit, people: Staff, ada: Session
) -> None:
    view, card = await cards.requested(kit, people.olga, ada)
    with pytest.raises(WrongState):
        await cards.step(kit, people.olga, ISSUE, card, {"Serial": [SERIAL]})
    await cards.decide(kit, people.paul, view, "reject")
    with pytest.raises(WrongState):
        await cards.step(kit, people.olga, ISSUE, card, {"Serial": [SERIAL]})


@pytest.mark.parametrize(("option", "value"), [("CardsPINDelivery", "email"), ("CardsPUKDelivery", "email")])
async def test_a_portal_without_mail_names_the_option(
    kit: Kit, people: Staff, ada: Session, option: str, value: str
) -> None:
    card = await cards.approved(kit, people, ada)
    await cards.options(kit, people.root, **{option: [value]})
    with pytest.raises(InlayError) as caught:
        await cards.step(kit, people.olga, ISSUE, card, {"Serial": [SERIAL]})
    assert (caught.value.code, caught.value.fields["option"]) == ("card_mail_missing", option)
    assert await state_of_card(kit, card) == "Approved"


async def test_a_holder_without_an_address_gets_none_by_mail(mailing: Kit) -> None:
    kit, people = mailing, await cards.staff(mailing)
    ada = await kit.person("ada@example..org")  # an account's name, and no address
    card = await cards.approved(kit, people, ada)
    await cards.options(kit, people.root, CardsPINDelivery=["email"])
    assert (
        await refused(cards.step(kit, people.olga, ISSUE, card, {"Serial": [SERIAL]})) == "card_mail_address"
    )
    assert await state_of_card(kit, card) == "Approved"


@on_both
async def test_a_holder_who_is_locked_gets_none(kit: Kit, people: Staff, ada: Session) -> None:
    card = await cards.approved(kit, people, ada)
    await kit.portal.accounts.set_state("ada@example.org", UserState.LOCKED)
    with pytest.raises(WrongState):
        await cards.step(kit, people.olga, ISSUE, card, {"Serial": [SERIAL]})


@pytest.mark.parametrize("serial", ["", "12-34", "xyz"])
async def test_a_serial_number_that_is_none(kit: Kit, people: Staff, ada: Session, serial: str) -> None:
    card = await cards.approved(kit, people, ada)
    with pytest.raises(FieldErrors):
        await cards.step(kit, people.olga, ISSUE, card, {"Serial": [serial]})


async def test_a_serial_number_that_another_card_has(kit: Kit, people: Staff, ada: Session) -> None:
    await cards.issued(kit, people, ada)
    card = await cards.approved(kit, people, ada, "Second")
    with pytest.raises(FieldErrors) as caught:
        await cards.step(kit, people.olga, ISSUE, card, {"Serial": [SERIAL]})
    assert "Badge" in caught.value.errors["Serial"]


async def test_an_approver_or_the_holder_issues_nothing(kit: Kit, people: Staff, ada: Session) -> None:
    card = await cards.approved(kit, people, ada)
    for who in (people.paul, ada):
        with pytest.raises(Exception, match="operator"):
            await cards.step(kit, who, ISSUE, card, {"Serial": [SERIAL]})


# --- half done


@on_both
async def test_undone_before_the_card_was_changed_it_is_as_it_was_and_nothing_is_valid(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card = await cards.approved(kit, people, ada)
    work = await cards.begun(kit, people.olga, card)
    assert work.agent.order is not None
    await work.agent.say(work.agent.card.requests(work.agent.order))
    await work.agent.hear()
    await cancel(kit, people, work)
    assert await undone(work) == "cancelled_at_portal"
    assert await state_of_card(kit, card) == "Approved"
    assert await cards.certificate_states(kit) == [("Revoked", "revoked")]
    assert await cards.letters(kit) == []
    await carried_out(kit, work)
    again = await cards.begun(kit, people.olga, card, work.agent, serial="99")  # another blank card will do
    await cards.complete(again)
    assert (await cards.card_row(kit, card)).serial == "99"


@on_both
@pytest.mark.parametrize("when", ["before it was undone", "after it was undone"])
async def test_undone_when_the_card_was_changed_it_is_failed_and_a_fresh_order_finishes_it(
    kit: Kit, people: Staff, ada: Session, when: str
) -> None:
    card = await cards.approved(kit, people, ada)
    work = await cards.begun(kit, people.olga, card)
    if when == "before it was undone":
        await cards.certified(work)
    await cancel(kit, people, work)
    if when == "after it was undone":
        await work.agent.say(Changing())
    assert await undone(work) == "cancelled_at_portal"
    await carried_out(kit, work)
    assert await state_of_card(kit, card) == "Failed"
    told = (await kit.services.process(people.olga, work.view.id)).error
    assert told is not None
    assert (
        told.next_step == InlayError("card_half_done").happened + " " + InlayError("card_half_done").next_step
    )
    assert {state for state, _ in await cards.certificate_states(kit)} <= {"Revoked"}
    assert await cards.letters(kit) == []
    with pytest.raises(WrongState):
        await cards.step(kit, ada, ActivateCard.name, card)
    with pytest.raises(FieldErrors):  # that card is finished, and no other in its place
        await cards.step(kit, people.olga, ISSUE, card, {"Serial": ["77"]})
    again = await cards.begun(kit, people.olga, card, work.agent)
    assert again.ordered.guid == work.ordered.guid
    assert again.pin != work.pin
    await cards.complete(again)
    assert await state_of_card(kit, card) == "Issued"
    assert ("Valid", "held") in await cards.certificate_states(kit)


async def test_what_comes_late_of_an_earlier_order_leaves_the_new_pin(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card = await cards.approved(kit, people, ada)
    work = await cards.begun(kit, people.olga, card)
    await cancel(kit, people, work)
    again = await cards.begun(kit, people.olga, card, work.agent)
    await work.agent.say(Changing())
    await carried_out(kit, work)
    assert [letter.process_id for letter in await cards.letters(kit)] == [again.view.id]


async def test_a_receipt_or_requests_of_another_card(kit: Kit, people: Staff, ada: Session) -> None:
    card = await cards.approved(kit, people, ada)
    work = await cards.begun(kit, people.olga, card)
    work.agent.card.serial = "43"
    assert work.agent.order is not None
    await work.agent.say(work.agent.card.requests(work.agent.order))
    assert await undone(work) == "params_invalid"
    assert await cards.certificate_states(kit) == []
    await carried_out(kit, work)
    again = await cards.begun(kit, people.olga, card, work.agent)
    answer = await cards.certified(again)
    right = cards.receipt(again, answer)
    await again.agent.say(Receipt(guid="ab" * 16, proofs=right.proofs))
    assert await undone(again) == "params_invalid"
    assert await state_of_card(kit, card) == "Failed"


async def test_aborted_it_is_issued_no_more_but_not_while_it_is_encoded(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card = await cards.approved(kit, people, ada)
    work = await cards.begun(kit, people.olga, card)
    with pytest.raises(WrongState):
        await cards.step(kit, people.olga, AbortCard.name, card, {"Reason": ["not needed"]})
    await cancel(kit, people, work)
    await undone(work)
    await carried_out(kit, work)
    view = await kit.services.start_process(people.olga, AbortCard.name, ObjectRef("card", card))
    await kit.services.next(people.olga, view.id, view.version, {"Reason": ["not needed"]})
    assert await state_of_card(kit, card) == "Aborted"
    with pytest.raises(WrongState):
        await cards.step(kit, people.olga, ISSUE, card, {"Serial": [SERIAL]})


async def test_cancelled_before_the_order_nothing_happened(kit: Kit, people: Staff, ada: Session) -> None:
    card = await cards.approved(kit, people, ada)
    view = await kit.services.start_process(people.olga, ISSUE, ObjectRef("card", card))
    await kit.services.cancel(people.olga, view.id)
    view = await cards.step(kit, people.olga, ISSUE, card, {"Serial": [SERIAL]})
    await kit.services.cancel(people.olga, view.id)
    assert await state_of_card(kit, card) == "Approved"


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


# --- to the end


@on_both
async def test_an_issued_card_has_pin_keys_and_certificates_on_hold(
    kit: Kit, people: Staff, ada: Session
) -> None:
    await cards.options(
        kit,
        people.root,
        CardsPINLength=["8"],
        CardsCertificates=["authentication", "signature", "encryption"],
    )
    card = await cards.approved(kit, people, ada)
    work = await cards.begun(kit, people.olga, card)
    wanted = work.ordered
    assert (wanted.driver, wanted.pin.kind, wanted.steps) == ("piv", "given", [CardStep.SET_PIN])
    assert wanted.new_puk
    assert wanted.identity is not None
    assert (wanted.identity.serial, wanted.identity.blank) == ("42", True)
    left = KeySource.IMPORT_IF_POSSIBLE
    assert [key.source for key in wanted.keys] == [KeySource.GENERATE, KeySource.GENERATE, left]
    assert len(work.pin) == 8
    assert work.proceed.puk is not None
    assert bytes(work.agent.ephemeral.decrypt(work.proceed.puk)) == b"12345678"
    await cards.complete(work)
    assert await state_of_card(kit, card) == "Issued"
    assert await cards.certificate_states(kit) == [("Valid", "held")] * 3
    row = await cards.card_row(kit, card)
    assert row.valid_until == wanted.valid_until
    async with kit.database.read() as tx:
        assert (await tx.get_one(ManagedCard, card)).encoded_for == ada.user.id
        related = list(await tx.scalars(select(ObjectRelation).where(ObjectRelation.from_id == card)))
    assert len(related) == 3
    view = await kit.services.process(people.olga, work.view.id)
    assert "letter" in view.facts["PIN"]
    assert work.pin not in repr(view)


# --- which key the card makes


async def test_the_page_is_told_which_of_several_keys_the_card_makes(
    kit: Kit, people: Staff, ada: Session
) -> None:
    work = await cards.begun(kit, people.olga, await cards.approved(kit, people, ada))
    seen = []
    for key in (KeyCount(number=2, of=3), None):
        await work.agent.say(Progress(step=OrderStep.KEYS, key=key))
        view = await kit.services.process(people.olga, work.view.id)
        assert view.order is not None
        seen.append((view.order.step, view.order.key))
    assert seen == [(OrderStep.KEYS, KeyCount(number=2, of=3)), (OrderStep.KEYS, None)]


# --- the encryption key


async def with_encryption(kit: Kit, people: Staff, ada: Session, **changed: list[str]) -> str:
    """A card that can be issued, and gets a key for encryption alone."""
    await cards.options(
        kit, people.root, CardsCertificates=["encryption"], CardsActivationNeedsCard=[], **changed
    )
    return await cards.approved(kit, people, ada)


async def facts_of(kit: Kit, people: Staff, work: Begun) -> str:
    """What the process's page says of the encryption key."""
    return (await kit.services.process(people.olga, work.view.id)).facts["Encryption key"]


async def test_a_key_that_has_to_be_recoverable_is_not_left_to_the_card(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card = await with_encryption(kit, people, ada, CardsRecoverEncryption=["required"])
    work = await cards.begun(kit, people.olga, card)
    assert [key.source for key in work.ordered.keys] == [KeySource.IMPORT]
    made = CertificateRequest(slot="9D", public_key=public_der(make_key(Algorithm.P_256)))
    await work.agent.say(Requests(guid=work.agent.card.guid, serial="42", requests=[made]))
    assert await undone(work) == "params_invalid"
    assert await cards.certificate_states(kit) == []


@on_both
@pytest.mark.parametrize("imports", [False, True])
async def test_a_key_that_is_left_to_the_card_is_in_the_archive_only_where_the_card_takes_it(
    kit: Kit, people: Staff, ada: Session, imports: bool
) -> None:
    card = await with_encryption(kit, people, ada)
    work = await cards.begun(kit, people.olga, card)
    assert [key.source for key in work.ordered.keys] == [KeySource.IMPORT_IF_POSSIBLE]
    assert "a card that takes no such key makes one itself" in await facts_of(kit, people, work)
    work.agent.card.imports = imports
    await cards.complete(work)
    assert await state_of_card(kit, card) == "Issued"
    async with kit.database.read() as tx:
        [row] = await tx.scalars(select(Certificate))
        archived = list(await tx.scalars(select(ArchivedKey)))
    assert row.key_source == ("import" if imports else "generate")
    assert (row.archived_key_id is not None) is imports
    assert len(archived) == imports
    said = await facts_of(kit, people, work)
    assert ("lost with the card" in said) is not imports
    assert ("takes no key from the portal's archive" in said) is not imports


async def test_requests_that_come_again_tell_the_same(kit: Kit, people: Staff, ada: Session) -> None:
    work = await cards.begun(kit, people.olga, await with_encryption(kit, people, ada))
    assert work.agent.order is not None
    work.agent.card.imports = False
    asked = work.agent.card.requests(work.agent.order)
    async with kit.database.read() as tx:
        before = tasks.plan_of(await order_rows.load(tx, work.agent.order.jti))
    await cards.certified(work)
    async with kit.database.read() as tx:
        after = tasks.plan_of(await order_rows.load(tx, work.agent.order.jti))
    assert [item.source for item in before.certificates] == ["import_if_possible"]
    assert [item.source for item in after.certificates] == ["generate"]
    assert key_sources.settled_plan(after, asked) == after
    async with kit.database.read() as tx:
        assert [row.key_source for row in await tx.scalars(select(Certificate))] == ["generate"]
        assert list(await tx.scalars(select(ArchivedKey))) == []


async def test_a_key_that_is_not_to_be_recoverable_is_made_on_every_card(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card = await with_encryption(kit, people, ada, CardsRecoverEncryption=["no"])
    work = await cards.begun(kit, people.olga, card)
    assert [key.source for key in work.ordered.keys] == [KeySource.GENERATE]
    await cards.complete(work)
    assert "lost with the card" in await facts_of(kit, people, work)
    async with kit.database.read() as tx:
        assert list(await tx.scalars(select(ArchivedKey))) == []


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

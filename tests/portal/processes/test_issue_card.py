"""Issue a card: what is refused and half done, then as it should go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.errors import FieldErrors, WrongState
from portal.model.states import UserState
from portal.processes.abort_card import AbortCard
from portal.processes.activate_card import ActivateCard
from portal.store.tables import ManagedCard, ObjectRelation
from portal.views import ObjectRef
from protocol.errors import InlayError
from protocol.messages import (
    CardStep,
    Changing,
    KeySource,
    Receipt,
)
from tests.support import issued_cards as cards
from tests.support.databases import BACKENDS
from tests.support.issue_stage import ada, cancel, mailing, people, refused, undone
from tests.support.issued_cards import ISSUE, SERIAL, Begun, Staff
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.portal_kit import Kit

__all__ = ["ada", "mailing", "people"]
on_both = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


async def carried_out(kit: Kit, work: Begun) -> None:
    """Wait until the portal has done what the device's messages ask for."""
    assert work.agent.order is not None
    await kit.portal.incoming.carry_out_now(work.agent.order.jti)


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
    again = await cards.begun(kit, people.olga, card, work.agent, "000 42")  # the same number
    assert (await cards.card_row(kit, card)).serial == "0042"
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

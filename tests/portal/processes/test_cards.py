"""A card's life from the request to its end: who may do what in which state, and what the CA says of it each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal.errors import Forbidden, NotFound, SecondPerson, WrongState
from portal.model.states import ProcessState, Role, UserState
from portal.processes.activate_card import ActivateCard
from portal.processes.check_card import CheckCard
from portal.processes.deactivate_card import DeactivateCard
from portal.processes.lock_card import LockCard
from portal.processes.reactivate_card import ReactivateCard
from portal.processes.request_card import RequestCard
from portal.processes.unblock_change_pin import UnblockChangePin
from portal.views import ObjectRef
from protocol.errors import InlayError
from protocol.messages import Finished, Proceed, Receipt
from tests.support import issued_cards as cards
from tests.support.databases import BACKENDS
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.issued_cards import Staff
    from tests.support.portal_kit import Kit

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

REASON = {"Reason": ["found again"]}


@pytest.fixture
async def people(kit: Kit) -> Staff:
    """Administrator, operator (who may approve, too), approver."""
    return await cards.staff(kit)


@pytest.fixture
async def ada(kit: Kit) -> Session:
    """Who gets the card."""
    return await kit.person()


# --- the request


async def test_who_asked_and_who_gets_it_dont_approve_it(kit: Kit, people: Staff) -> None:
    holder = await kit.person("anna@example.org", [Role.SELF_SERVICE, Role.APPROVER])
    view, card = await cards.requested(kit, people.olga, holder)
    with pytest.raises(SecondPerson):
        await cards.decide(kit, people.olga, view, "approve")
    with pytest.raises(SecondPerson):
        await cards.decide(kit, holder, view, "approve")
    assert await state_of_card(kit, card) == "Requested"


async def test_nobody_else_asks_or_approves(kit: Kit, people: Staff, ada: Session) -> None:
    for who in (ada, people.paul, people.root):
        with pytest.raises(Forbidden):
            await cards.requested(kit, who, ada)
    view, _ = await cards.requested(kit, people.olga, ada)
    for who in (ada, people.root):
        with pytest.raises(NotFound):
            await cards.decide(kit, who, view, "approve")


async def test_a_person_who_was_locked_meanwhile(kit: Kit, people: Staff, ada: Session) -> None:
    view, card = await cards.requested(kit, people.olga, ada)
    await kit.portal.accounts.set_state("ada@example.org", UserState.LOCKED)
    with pytest.raises(WrongState):
        await cards.decide(kit, people.paul, view, "approve")
    assert await state_of_card(kit, card) == "Requested"


async def test_rejected_aborted_and_cancelled_before_anything(kit: Kit, people: Staff, ada: Session) -> None:
    view, card = await cards.requested(kit, people.olga, ada)
    view = await cards.decide(kit, people.paul, view, "reject")
    assert (view.state, await state_of_card(kit, card)) == (ProcessState.FAILED, "Rejected")
    view, card = await cards.requested(kit, people.olga, ada)
    await kit.services.cancel(people.olga, view.id)
    assert await state_of_card(kit, card) == "Aborted"
    with pytest.raises(WrongState):
        await cards.decide(kit, people.olga, view, "approve")
    view = await kit.services.start_process(people.olga, RequestCard.name, ObjectRef("user", ada.user.id))
    view = await kit.services.cancel(people.olga, view.id)
    assert view.state is ProcessState.CANCELLED


# --- activation


async def test_somebody_elses_card_is_not_there(kit: Kit, people: Staff, ada: Session) -> None:
    card, _ = await cards.issued(kit, people, ada)
    eve = await kit.person("eve@example.org")
    with pytest.raises(NotFound):
        await cards.step(kit, eve, ActivateCard.name, card)
    with pytest.raises(Forbidden):
        await cards.step(kit, people.olga, ActivateCard.name, card)
    assert await cards.certificate_states(kit) == [("Valid", "held")]


async def test_a_locked_holder_activates_nothing(kit: Kit, people: Staff, ada: Session) -> None:
    card, _ = await cards.issued(kit, people, ada)
    await kit.portal.accounts.set_state("ada@example.org", UserState.LOCKED)
    with pytest.raises(InlayError) as caught:
        await cards.step(kit, ada, ActivateCard.name, card)
    assert caught.value.code == "user_not_active"
    assert await state_of_card(kit, card) == "Issued"


async def test_a_second_active_card_only_where_the_option_allows_it(
    kit: Kit, people: Staff, ada: Session
) -> None:
    first = await cards.active(kit, people, ada, "1")
    second, work = await cards.issued(kit, people, ada, "2")
    with pytest.raises(InlayError) as caught:
        await cards.step(kit, ada, ActivateCard.name, second)
    assert (caught.value.code, caught.value.fields["label"]) == ("card_other_active", "Badge")
    await cards.step(kit, people.olga, DeactivateCard.name, first, REASON)
    await cards.activate(kit, ada, second, work)
    with pytest.raises(InlayError):
        await cards.step(kit, people.olga, ReactivateCard.name, first, REASON)
    await cards.options(kit, people.root, CardsMultipleActive=["true"])
    await cards.step(kit, people.olga, ReactivateCard.name, first, REASON)
    assert {await state_of_card(kit, card) for card in (first, second)} == {"Active"}


async def test_cancelled_before_it_is_done_nothing_is_released(kit: Kit, people: Staff, ada: Session) -> None:
    card, _ = await cards.issued(kit, people, ada)
    view = await kit.services.start_process(ada, ActivateCard.name, ObjectRef("card", card))
    await kit.services.cancel(ada, view.id)
    assert await state_of_card(kit, card) == "Issued"
    assert await cards.certificate_states(kit) == [("Valid", "held")]


# --- the whole life


async def test_from_the_request_to_the_lock(kit: Kit, people: Staff, ada: Session) -> None:
    card, work = await cards.issued(kit, people, ada)
    for process in (DeactivateCard, ReactivateCard):
        with pytest.raises(WrongState):
            await cards.step(kit, people.olga, process.name, card, REASON)
    for own in (UnblockChangePin, CheckCard):
        with pytest.raises(WrongState):
            await kit.services.start_process(ada, own.name, ObjectRef("card", card))
    assert [item.state for item in await kit.services.cards(ada)] == ["Issued"]
    await cards.activate(kit, ada, card, work)
    assert await cards.certificate_states(kit) == [("Valid", "good")]
    with pytest.raises(WrongState):
        await cards.step(kit, ada, ActivateCard.name, card)
    await cards.step(kit, people.olga, DeactivateCard.name, card, REASON)
    assert await cards.certificate_states(kit) == [("On Hold", "held")]
    await cards.step(kit, people.olga, ReactivateCard.name, card, REASON)
    assert await cards.certificate_states(kit) == [("Valid", "good")]
    assert await state_of_card(kit, card) == "Active"
    await cards.step(kit, people.olga, LockCard.name, card, {"Reason": ["stolen"]})
    assert await cards.certificate_states(kit) == [("Revoked", "revoked")]
    for name in (DeactivateCard.name, ReactivateCard.name, LockCard.name):
        with pytest.raises(WrongState):
            await cards.step(kit, people.olga, name, card, REASON)
    assert work.view.state is ProcessState.RUNNING


async def test_reactivated_before_the_ca_has_heard_of_the_hold(kit: Kit, people: Staff, ada: Session) -> None:
    card = await cards.active(kit, people, ada)
    await kit.portal.pause()
    await cards.step(kit, people.olga, DeactivateCard.name, card, REASON)
    await cards.step(kit, people.olga, ReactivateCard.name, card, REASON)
    assert await cards.certificate_states(kit) == [("Valid", "good")]


async def test_a_card_expires_in_every_state_with_a_holder(kit: Kit, people: Staff, ada: Session) -> None:
    card = await cards.active(kit, people, ada)
    kit.clock.now += 731 * 86_400
    await kit.portal.expiry.run_due()
    assert await state_of_card(kit, card) == "Expired"


async def test_the_holder_of_an_active_card_unblocks_it(kit: Kit, people: Staff, ada: Session) -> None:
    card = await cards.active(kit, people, ada)
    view = await cards.step(kit, ada, UnblockChangePin.name, card, {"Action": ["unblock"], "PUK": ["portal"]})
    code = await kit.services.new_code(ada, view.id)
    agent = await kit.agent()
    await agent.claim(code.code)
    await agent.consent(number="417")
    await kit.bind(ada, view.id, "417")
    proceed = await agent.hear()
    assert isinstance(proceed, Proceed)
    assert proceed.puk is not None
    await agent.say(Receipt(guid=(await cards.card_row(kit, card)).guid))
    assert isinstance(await agent.hear(), Finished)

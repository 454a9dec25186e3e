"""A card proves that its holder has it, before it is Active: what is no such proof, then both ways to a PIN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from portal.errors import NotFound, WrongState
from portal.model.states import ProcessState
from portal.processes.activate_card import ActivateCard
from portal.processes.lock_card import LockCard
from portal.processes.reactivate_card import ReactivateCard
from portal.processes.set_first_pin import SetFirstPin
from portal.store.tables import Card
from portal.views import ObjectRef
from protocol.errors import InlayError
from protocol.messages import Algorithm, ErrorData, Finished, Receipt, UnblockPin, Undo, Undone
from tests.support import issued_cards as cards
from tests.support.card_signatures import authentication, digest_of, signed
from tests.support.databases import BACKENDS
from tests.support.software_agent import make_key
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from portal.views import Session
    from protocol.messages import CardSignature
    from tests.support.issued_cards import Staff
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


@pytest.fixture
async def people(kit: Kit) -> Staff:
    """Administrator, operator, approver."""
    return await cards.staff(kit)


@pytest.fixture
async def ada(kit: Kit) -> Session:
    """Who gets the card."""
    return await kit.person()


async def refused(agent: SoftwareAgent, signature: CardSignature | None, guid: str | None = None) -> str:
    """How the portal undoes an order for what its receipt holds."""
    await agent.say(Receipt(guid=guid or agent.card.guid, signature=signature))
    undo = await agent.hear()
    assert isinstance(undo, Undo), undo
    return undo.error.error


async def assert_as_it_was(kit: Kit, card: str) -> None:
    """Issued, its certificate on hold."""
    assert await state_of_card(kit, card) == "Issued"
    assert await cards.certificate_states(kit) == [("Valid", "held")]


async def test_what_is_no_proof_of_this_card_leaves_it_issued(kit: Kit, people: Staff, ada: Session) -> None:
    card, work = await cards.issued(kit, people, ada)
    stranger = make_key(Algorithm.P_256)
    codes = []
    for fault in ("another card", "nothing", "another key", "another origin", "cut"):
        _, agent, _ = await cards.activating(kit, ada, card, work)
        good = authentication(agent)
        wrong = {
            "another card": good,
            "nothing": None,
            "another key": signed(stranger, good.certificate, digest_of(agent)),
            "another origin": authentication(agent, "https://evil.test"),
            "cut": msgspec.structs.replace(good, signature=good.signature[:-1]),
        }
        codes.append(await refused(agent, wrong[fault], "ab" * 16 if fault == "another card" else None))
    assert codes == ["params_invalid"] * 2 + ["proof_invalid"] * 3
    await assert_as_it_was(kit, card)


async def test_given_up_at_the_machine_or_in_the_page_it_stays_issued(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card, work = await cards.issued(kit, people, ada)
    for code in ("pin_blocked", "user_cancelled"):
        view, agent, _ = await cards.activating(kit, ada, card, work)
        await agent.say(Undone(error=ErrorData(error=code)))
        await kit.ended(ada, view.id)
        await assert_as_it_was(kit, card)
    view, agent, _ = await cards.activating(kit, ada, card, work)
    await kit.services.cancel(ada, view.id)
    await agent.say(Receipt(guid=agent.card.guid, signature=authentication(agent)))  # on its way already
    assert isinstance(await agent.hear(), Undo)
    await assert_as_it_was(kit, card)


@pytest.mark.parametrize("when", ["while the card is at work", "while its receipt is on its way"])
async def test_locked_meanwhile_it_stays_locked(kit: Kit, people: Staff, ada: Session, when: str) -> None:
    card, work = await cards.issued(kit, people, ada)
    _, agent, _ = await cards.activating(kit, ada, card, work)
    if when == "while the card is at work":
        await cards.step(kit, people.olga, LockCard.name, card, {"Reason": ["stolen"]})
        undo = await agent.hear()
        assert isinstance(undo, Undo)
        assert undo.error.error == "card_ended"
    else:
        async with kit.database.write() as tx:
            (await tx.get_one(Card, card)).state = "Locked"
        assert await refused(agent, authentication(agent)) == "card_ended"
    assert await state_of_card(kit, card) == "Locked"


async def test_another_card_became_active_meanwhile(kit: Kit, people: Staff, ada: Session) -> None:
    """Asked again with the proof: of two cards that are being activated the second one isn't."""
    first, one = await cards.issued(kit, people, ada, "1")
    second, two = await cards.issued(kit, people, ada, "2")
    view, late, _ = await cards.activating(kit, ada, second, two)
    await cards.activate(kit, ada, first, one)
    assert await refused(late, authentication(late)) == "card_other_active"
    assert (await kit.services.process(ada, view.id)).state is ProcessState.FAILED
    assert await state_of_card(kit, second) == "Issued"


async def test_a_card_that_cant_sign_in_is_said_before_anybody_fetches_a_reader(
    kit: Kit, people: Staff, ada: Session
) -> None:
    unproved = {"CardsCertificates": ["signature"], "CardsActivationNeedsCard": ["false"]}
    await cards.options(kit, people.root, **unproved)
    card, _ = await cards.issued(kit, people, ada)
    proved = {"CardsCertificates": ["authentication"], "CardsActivationNeedsCard": ["true"]}
    await cards.options(kit, people.root, **proved)
    with pytest.raises(InlayError) as caught:
        await kit.services.start_process(ada, ActivateCard.name, ObjectRef("card", card))
    assert caught.value.code == "card_without_authentication"


async def test_the_option_lets_the_holder_say_so_without_a_reader(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card, _ = await cards.issued(kit, people, ada)
    await cards.options(kit, people.root, CardsActivationNeedsCard=["false"])
    view = await cards.step(kit, ada, ActivateCard.name, card)
    assert view.state is ProcessState.FINISHED
    assert await cards.certificate_states(kit) == [("Valid", "good")]


async def test_its_signature_makes_it_active_and_no_more_than_once(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card, work = await cards.issued(kit, people, ada)
    view = await cards.activate(kit, ada, card, work)
    assert (view.state, view.facts["Result"]) == (ProcessState.FINISHED, "The card is active.")
    assert await state_of_card(kit, card) == "Active"
    assert await cards.certificate_states(kit) == [("Valid", "good")]
    with pytest.raises(WrongState):
        await cards.step(kit, ada, ActivateCard.name, card)
    with pytest.raises(WrongState):
        await cards.step(kit, people.olga, ReactivateCard.name, card, {"Reason": ["again"]})


# --- a card whose PIN nobody was told


async def test_whoever_was_told_the_pin_sets_none_without_the_puk(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card, _ = await cards.issued(kit, people, ada)
    with pytest.raises(InlayError) as caught:
        await kit.services.start_process(ada, SetFirstPin.name, ObjectRef("card", card))
    assert caught.value.code == "card_pin_told"
    eve = await kit.person("eve@example.org")
    with pytest.raises(NotFound):
        await kit.services.start_process(eve, SetFirstPin.name, ObjectRef("card", card))


@pytest.mark.parametrize("why", ["nopin", "not printed", "nopin, not printed"])
async def test_a_pin_that_nobody_was_told_is_set_first(
    kit: Kit, people: Staff, ada: Session, why: str
) -> None:
    """By the PUK of the letter where there is one; else by what the portal keeps."""
    if why.startswith("nopin"):
        await cards.options(kit, people.root, CardsPINDelivery=["nopin"], CardsPUKDelivery=["print"])
    card, work = await cards.issued(kit, people, ada)
    if why == "nopin":
        view = await kit.services.process(people.olga, work.view.id)
        assert [letter.kind for letter in view.letters] == ["puk"]
        assert "told to nobody" in view.facts["PIN"]
    else:
        await kit.services.cancel(people.olga, work.view.id)
    view, agent, proceed = await cards.activating(kit, ada, card, work, SetFirstPin.name)
    assert agent.order is not None
    wanted = agent.order.parameters
    assert isinstance(wanted, UnblockPin)
    assert (wanted.puk, proceed.puk is None) == (("typed", True) if why == "nopin" else ("escrow", False))
    await agent.say(Receipt(guid=agent.card.guid))
    assert isinstance(await agent.hear(), Finished)
    await assert_as_it_was(kit, card)
    assert await cards.letters(kit) == []
    view = await kit.services.start_process(ada, ActivateCard.name, ObjectRef("card", card))
    assert "Set PIN" in view.facts["PIN"]
    await cards.activate(kit, ada, card, work)
    assert await state_of_card(kit, card) == "Active"


async def test_a_first_pin_isnt_set_by_a_puk_that_the_card_has_refused(
    kit: Kit, people: Staff, ada: Session
) -> None:
    """Each time costs a try: the next order has it typed."""
    card, work = await cards.issued(kit, people, ada)
    await kit.services.cancel(people.olga, work.view.id)
    _, agent, proceed = await cards.activating(kit, ada, card, work, SetFirstPin.name)
    assert proceed.puk is not None
    await agent.say(Undone(error=ErrorData(error="card_puk_other", fields={"tries": 2})))
    assert agent.order is not None
    await kit.portal.incoming.carry_out_now(agent.order.jti)
    fresh = await kit.services.start_process(ada, SetFirstPin.name, ObjectRef("card", card))
    assert fresh.facts["PUK"].startswith("the card has refused the one that the portal keeps")
    _, agent, proceed = await cards.activating(kit, ada, card, work, SetFirstPin.name)
    assert agent.order is not None
    assert isinstance(agent.order.parameters, UnblockPin)
    assert (agent.order.parameters.puk, proceed.puk) == ("typed", None)

"""Attacks on the activation of cards: somebody else's card, an old proof, the wrong key, two cards in a race."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from portal.errors import PortalError
from portal.model.states import ProcessState
from portal.processes.activate_card import ActivateCard
from portal.processes.set_first_pin import SetFirstPin
from portal.views import ObjectRef
from protocol.messages import Authenticate, Finished, Receipt, Undo
from tests.support import issued_cards as cards
from tests.support.card_signatures import authentication
from tests.support.databases import BACKENDS
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.issued_cards import Begun, Staff
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


@pytest.fixture
async def people(kit: Kit) -> Staff:
    return await cards.staff(kit)


@pytest.fixture
async def ada(kit: Kit) -> Session:
    return await kit.person()


@pytest.mark.parametrize("process", [ActivateCard.name, SetFirstPin.name])
async def test_somebody_elses_card_isnt_there(kit: Kit, people: Staff, ada: Session, process: str) -> None:
    """Neither for another user, nor for the operator who has issued it and has it in hand."""
    card, _ = await cards.issued(kit, people, ada)
    eve = await kit.person("eve@example.org")
    codes = []
    for session in (eve, people.olga):
        with pytest.raises(PortalError) as caught:
            await kit.services.start_process(session, process, ObjectRef("card", card))
        codes.append(type(caught.value).__name__)
    assert codes == ["NotFound", "Forbidden"]


async def test_a_proof_is_good_for_its_own_order_alone(kit: Kit, people: Staff, ada: Session) -> None:
    """Whoever had the card in a reader once keeps the signature, and comes back with it without the card."""
    card, work = await cards.issued(kit, people, ada)
    view, agent, _ = await cards.activating(kit, ada, card, work)
    assert agent.order is not None
    first = agent.order.parameters
    old = authentication(agent)
    await kit.services.cancel(ada, view.id)
    _, agent, _ = await cards.activating(kit, ada, card, work)
    assert agent.order is not None
    assert isinstance(first, Authenticate)
    assert isinstance(agent.order.parameters, Authenticate)
    assert agent.order.parameters.challenge != first.challenge
    await agent.say(Receipt(guid=agent.card.guid, signature=old))
    undo = await agent.hear()
    assert isinstance(undo, Undo)
    assert undo.error.error == "proof_invalid"
    assert await state_of_card(kit, card) == "Issued"


async def test_of_two_cards_that_prove_themselves_at_once_one_is_active(
    kit: Kit, people: Staff, ada: Session
) -> None:
    """Both receipts arrive before either is judged."""
    ids, agents = [], []
    begun: list[Begun] = []
    for serial in ("1", "2"):
        card, work = await cards.issued(kit, people, ada, serial)
        ids.append(card)
        begun.append(work)
    views = []
    for card, work in zip(ids, begun, strict=True):
        view, agent, _ = await cards.activating(kit, ada, card, work)
        views.append(view)
        agents.append(agent)

    async def prove(agent: SoftwareAgent) -> str:
        await agent.say(Receipt(guid=agent.card.guid, signature=authentication(agent)))
        heard = await agent.hear()
        return heard.error.error if isinstance(heard, Undo) else type(heard).__name__

    ends = await asyncio.gather(*map(prove, agents))
    assert sorted(ends) == sorted([Finished.__name__, "card_other_active"])
    states = [await state_of_card(kit, card) for card in ids]
    assert sorted(states) == ["Active", "Issued"]
    await kit.portal.revocations.run_due()
    assert sorted(await cards.certificate_states(kit)) == [("Valid", "good"), ("Valid", "held")]
    shown = [(await kit.services.process(ada, view.id)).state for view in views]
    assert ProcessState.FAILED in shown

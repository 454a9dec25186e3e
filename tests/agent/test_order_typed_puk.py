"""The order *change PUK* with a PUK that the person types: wrong, blocked, given up, torn, then as it should go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.ports import InteractionError, UserCancelled, WindowFailed
from protocol.messages import ChangePuk
from tests.cards.independent.in_reader import kinds
from tests.cards.profiles import METADATA, PROFILES, Profile
from tests.cards.simulated import PUK
from tests.support.agent_parts import CODE, AgentParts
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import Answer
from tests.support.physical_orders import (
    GUID,
    encoding_agent,
    instructions,
    order,
    personalised,
    put_back,
    undone,
    window_of,
)
from tests.support.simulated_readers import SimulatedReaders

CONSENT: Answer = (None, None)
NEW_PUK, OWN, WRONG = b"87654321", b"24681357", b"11112222"
TELLING = next(each for each in PROFILES if METADATA in each.yubico and each.changes_puk)
SILENT = next(each for each in PROFILES if METADATA not in each.yubico and each.changes_puk)
CHANGE = 0x24


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with encoding_agent(tmp_path / "home", readers, portal) as running:
        portal.puk = None  # the portal hasn't got it
        portal.new_puk = NEW_PUK
        portal.operation = ChangePuk(card="card-1", driver="piv", guid=GUID, label="Card 7", puk="typed")
        yield running


def changes(readers: SimulatedReaders) -> int:
    return instructions(readers).count(CHANGE)


async def test_a_portal_that_leaves_out_the_new_one_changes_nothing_and_asks_nothing(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(personalised())
    portal.new_puk = None
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "params_invalid"
    assert (len(window_of(agent).asked), changes(readers)) == (1, 0)
    assert (await undone(portal)).changing == 0


async def test_a_blocked_puk_is_said_with_what_to_do_and_none_is_asked_for(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(TELLING)
    card.puk_left = 0
    readers.put(card)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "card_puk_blocked"
    assert (len(window_of(agent).asked), changes(readers)) == (1, 0)
    await window_of(agent).until("card_puk_blocked")
    error = window_of(agent).error
    assert error is not None
    assert "encoded anew" in error.next_step


async def test_who_gives_up_before_typing_leaves_nothing_said_to_the_portal(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(personalised())
    agent.windows.answers = [CONSENT, UserCancelled("puk")]
    assert await order(agent, portal) == "user_cancelled"
    assert ((await undone(portal)).changing, changes(readers)) == (0, 0)


@pytest.mark.parametrize("profile", [TELLING, SILENT], ids=["telling", "silent"])
@pytest.mark.parametrize("end", [UserCancelled("puk"), WindowFailed(-9)], ids=["cancelled", "failed"])
async def test_after_a_wrong_one_who_goes_on_no_more_ends_it_as_wrong(
    agent: AgentParts,
    portal: FakePortal,
    readers: SimulatedReaders,
    profile: Profile,
    end: InteractionError,
) -> None:
    """So that the portal knows that the card has taken nothing: a cancel alone wouldn't say so."""
    card = personalised(profile)
    card.puk = OWN
    readers.put(card)
    agent.windows.answers = [CONSENT, (WRONG, None), end]
    assert await order(agent, portal) == "card_puk_wrong"
    assert (card.puk, card.puk_left) == (OWN, profile.puk_tries - 1)
    at = await undone(portal)
    assert at.undone is not None
    assert (at.changing, at.undone.error) == (1, "card_puk_wrong")


@pytest.mark.parametrize("profile", [TELLING, SILENT], ids=["telling", "silent"])
async def test_wrong_until_it_is_blocked_with_the_tries_said_each_time(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    card = personalised(profile)
    card.puk, card.puk_left = OWN, 3
    readers.put(card)
    agent.windows.answers = [CONSENT, (WRONG, None), (b"33334444", None), (b"55556666", None)]
    assert await order(agent, portal) == "card_puk_blocked"
    said = [str(prompt.warning) for prompt in window_of(agent).asked[2:]]
    assert "The PUK is wrong." in said[0]
    assert "2 tries are left" in said[0]
    assert "last try" in said[1]
    assert (card.puk, card.puk_left, changes(readers)) == (OWN, 0, 3)


@pytest.mark.parametrize("side", ["before", "after"])
async def test_torn_the_person_is_asked_before_a_try_may_be_spent(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, side: str
) -> None:
    card = personalised(SILENT)
    card.puk = OWN
    readers.put(card)
    put_back(readers, card)
    tears = [side]
    readers.tear = lambda _number, apdu: tears.pop() if tears and apdu[1] == CHANGE else None
    agent.windows.answers = [CONSENT, (OWN, None), CONSENT]
    assert await order(agent, portal) == "finished"
    assert "nobody knows whether" in str(window_of(agent).asked[2].warning)
    assert (card.puk, card.puk_left) == (NEW_PUK, SILENT.puk_tries)


async def test_torn_and_given_up_stays_open_for_the_portal(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(SILENT)
    card.puk = OWN
    readers.put(card)
    put_back(readers, card)
    tears = ["after"]
    readers.tear = lambda _number, apdu: tears.pop() if tears and apdu[1] == CHANGE else None
    agent.windows.answers = [CONSENT, (OWN, None), UserCancelled("puk")]
    assert await order(agent, portal) == "user_cancelled"
    assert (await undone(portal)).changing == 1


@pytest.mark.parametrize("has", ["the new one", "its own"])
async def test_where_an_earlier_order_may_have_changed_it_the_new_one_is_tried_first_and_once(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, has: str
) -> None:
    card = personalised(SILENT)
    card.puk = NEW_PUK if has == "the new one" else OWN
    readers.put(card)
    portal.puk_unsure = True
    answers: list[Answer] = [CONSENT, (WRONG, None), CONSENT]
    agent.windows.answers = answers if has == "the new one" else [*answers, (OWN, None)]
    assert await order(agent, portal) == "finished"
    assert card.puk == NEW_PUK
    # of the new one, the wrong one, and the right one by which it changed
    assert changes(readers) == (1 if has == "the new one" else 3)


async def test_the_right_one_gives_way_and_nobody_keeps_what_was_typed(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(TELLING)
    card.puk = OWN
    readers.put(card)
    agent.windows.answers = [CONSENT, (WRONG, None), (WRONG, None), (OWN, None)]
    assert await order(agent, portal) == "finished"
    assert changes(readers) == 2  # the same wrong one again costs no try
    assert "The PUK is wrong." in str(window_of(agent).asked[3].warning)
    assert "You type the PUK" in window_of(agent).asked[0].consequences[0]
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert receipt.puk_replaced
    assert (card.puk, card.puk_left) == (NEW_PUK, TELLING.puk_tries)
    assert portal.orders[CODE].changing == 1
    typed = [given.known for given in window_of(agent).given if given.known is not None]
    assert len(typed) == 3
    assert not any(any(secret) for secret in typed)
    written = agent.everything_written()
    assert not any(secret in written for secret in (OWN, WRONG, NEW_PUK))


@pytest.mark.parametrize("profile", kinds(10), ids=lambda profile: profile.name)
async def test_every_card_has_the_new_one_or_keeps_its_own(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    card = personalised(profile)
    readers.put(card)
    agent.windows.answers = [CONSENT, (PUK, None)]
    assert await order(agent, portal) == "finished", portal.orders[CODE].undone
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert receipt.puk_replaced == profile.changes_puk
    assert card.puk == (NEW_PUK if profile.changes_puk else PUK)

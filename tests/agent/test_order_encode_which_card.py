"""The order *encode card* for a card in a reader: the wrong card, no card, several, and which one a person picks."""

from __future__ import annotations

import asyncio

import pytest

from agent.ports import CardChoice, UserCancelled
from protocol.messages import (
    CardIdentity,
)
from tests.cards.profiles import PROFILES, SERIAL
from tests.cards.simulated import PIN, SimulatedCard
from tests.support.agent_parts import CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import FakeWindow
from tests.support.physical_orders import (
    GUID,
    NEW,
    PRINTED,
    agent,
    encode,
    first_encoding,
    order,
    personalised,
    undone,
    untouched,
    window_of,
)
from tests.support.simulated_readers import SimulatedReaders

__all__ = ["agent"]


async def test_another_card_is_refused_and_the_right_one_waited_for(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    other, card = personalised(guid="ab" * 16), personalised()
    before = dict(other.objects)
    readers.put(other, "Two")
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("another one")
    assert readers.trace == []
    readers.put(card)
    assert await ending == "finished"
    assert other.objects == before
    assert other.keys == {}


async def test_no_reader_no_service_no_card_are_said_until_there_is_one(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.problem = "pcsc_no_service"
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("pcscd")
    readers.problem, readers.readers = None, []
    readers.show()
    await window.until_said("There is no card reader")
    readers.readers = ["One", "Two"]
    readers.show()
    await window.until_said("Put the card “Card 7” in the reader")
    readers.put(personalised())
    assert await ending == "finished"


async def test_with_two_blank_cards_the_person_picks(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    blank = next(profile for profile in PROFILES if not profile.chuid)
    first, second = SimulatedCard(blank), SimulatedCard(blank)
    readers.put(first, "One")
    readers.put(second, "Two")
    first_encoding(portal, AUTHENTICATION)
    agent.windows.answers, agent.windows.choice = [(None, NEW)], 1
    assert await order(agent, portal) == "finished"
    assert [choice.label for choice in window_of(agent).choices[0]] == ["One", "Two"]
    assert first.objects == {} or 0x5FC105 not in first.objects
    assert 0x5FC105 in second.objects


async def test_a_pick_holds_for_that_card_alone(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    blank = next(profile for profile in PROFILES if not profile.chuid)
    second, other = SimulatedCard(blank), SimulatedCard(blank)
    window, picks, ending = await picking(agent, portal)
    readers.put(SimulatedCard(blank), "One")
    readers.put(second, "Two")
    gone = (await listed(window, [True, True]))[0].card
    readers.take("One")
    readers.put(other, "One")
    picks.put_nowait(gone)  # it was on its way when the card went
    async with asyncio.timeout(20), window.changed:
        await window.changed.wait_for(lambda: window.choices[-1][0].card != gone)
    readers.take("One")
    left = await listed(window, [False, True])
    assert (left[0].detail, ending.done(), untouched(readers)) == ("No card is in it.", False, True)
    picks.put_nowait(left[1].card)
    assert await ending == "finished"
    assert other.objects == {}
    assert 0x5FC105 in second.objects


async def test_a_picked_card_that_goes_before_it_has_its_identity_is_picked_again(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    blank = next(profile for profile in PROFILES if not profile.chuid)
    other = SimulatedCard(blank)
    window, picks, ending = await picking(agent, portal)
    readers.tear = lambda number, _apdu: "before" if number == 1 else None
    readers.torn = lambda reader: readers.put(other, reader)
    readers.put(SimulatedCard(blank), "One")
    readers.put(SimulatedCard(blank), "Two")
    await listed(window, [True, True])
    readers.take("Two")
    picked = (await listed(window, [True, False]))[0].card
    picks.put_nowait(picked)
    async with asyncio.timeout(20), window.changed:
        await window.changed.wait_for(lambda: window.choices[-1][0].card != picked)
    assert untouched(readers)
    await window.close_by_person()
    assert await ending == "user_cancelled"
    assert other.objects == {}


async def test_a_card_that_the_order_names_is_taken_though_another_would_do(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    blank = SimulatedCard(next(profile for profile in PROFILES if not profile.chuid))
    readers.put(blank, "One")
    readers.put(personalised(), "Two")
    first_encoding(portal, AUTHENTICATION, identity=CardIdentity(previous=GUID, blank=True))
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "finished"
    assert (window_of(agent).choices, window_of(agent).confirmed) == ([], [])
    assert "The card “Card 7” is in the reader “Two”. Leave it there." in window_of(agent).texts
    assert blank.objects == {}


async def test_a_card_that_had_the_guid_of_before_is_taken_whatever_number_it_tells(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    """A reset may have given it another one, by which the portal doesn't know it; a card with neither is refused."""
    numbered = next(profile for profile in PROFILES if SERIAL in profile.yubico and profile.chuid)
    card, other = personalised(numbered), personalised(numbered, "a7" * 16)
    card.serial = other.serial = b"\x80\0\0\7"
    identity = CardIdentity(previous=GUID, serial=PRINTED, blank=True, printed=PRINTED)
    first_encoding(portal, AUTHENTICATION, identity=identity)
    agent.windows.answers = [(None, NEW)]
    readers.put(other, "One")
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("is another one, and stays as it is")
    readers.put(card, "Two")
    assert await ending == "finished"
    asked = portal.orders[CODE].requests
    assert asked is not None
    assert (asked.serial, window.confirmed, 0x5FC105 in other.objects) == (None, [], False)


async def picking(
    agent: AgentParts, portal: FakePortal
) -> tuple[FakeWindow, asyncio.Queue[str], asyncio.Task[str]]:
    """An order that waits for a blank card, of which the person says which it is."""
    first_encoding(portal, AUTHENTICATION)
    agent.windows.answers = [(None, NEW)]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    picks = window.picks = asyncio.Queue()
    await window.until_said("Put the card")
    return window, picks, ending


async def listed(window: FakeWindow, usable: list[bool]) -> tuple[CardChoice, ...]:
    """The list, once it shows these readers as ones to pick from, or not."""
    async with asyncio.timeout(20), window.changed:
        await window.changed.wait_for(
            lambda: bool(window.choices) and [row.usable for row in window.choices[-1]] == usable
        )
    return window.choices[-1]


@pytest.mark.parametrize("moment", ["consent", "card"])
async def test_closed_before_the_card_is_changed_nothing_is(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, moment: str
) -> None:
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [UserCancelled("consent")] if moment == "consent" else [(None, None)]
    ending = asyncio.create_task(order(agent, portal))
    if moment == "card":
        window = await agent.windows.first()
        await window.until_said("Put the card")
        await window.close_by_person()
    assert await ending == "user_cancelled"
    assert (await undone(portal)).changing == 0
    assert readers.trace == []

"""A first encoding as the portal orders it, of cards that can't say which one they are: the person says it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.ports import UserCancelled
from protocol.messages import CardIdentity
from tests.cards.independent.in_reader import card_of, independent, kinds
from tests.cards.profiles import PROFILES, SERIAL, Profile
from tests.cards.simulated import SimulatedCard
from tests.support.agent_parts import AgentParts
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    FRESH,
    FULL,
    GUID,
    NEW,
    PRINTED,
    encoding_agent,
    first_encoding,
    order,
    personalised,
    undone,
    untouched,
    window_of,
)
from tests.support.simulated_readers import SimulatedReaders

OTHER = "a7" * 16
TELLS = next(each for each in PROFILES if SERIAL in each.yubico and each.chuid)
SAID_BY_PERSON = [FULL, *independent(0, lambda kind: SERIAL not in kind.yubico)]
SAID_BY_CARD = [TELLS, *independent(0, lambda kind: SERIAL in kind.yubico)]


def named(profile: Profile) -> str:
    return profile.name


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with encoding_agent(tmp_path / "home", readers, portal) as running:
        first_encoding(portal, AUTHENTICATION)
        running.windows.answers = [(None, NEW)]
        yield running


def guid_on(card: SimulatedCard) -> str | None:
    chuid = card.objects.get(0x5FC102)
    return chuid[29:45].hex() if chuid else None


@pytest.mark.parametrize("profile", SAID_BY_PERSON, ids=named)
async def test_a_card_that_is_another_one_of_the_portals_is_refused_before_anything_is_written(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    readers.put(card := personalised(profile))
    before = (dict(card.objects), dict(card.keys), card.pin, card.puk)
    portal.other_cards.add(GUID)
    assert await order(agent, portal) == "card_of_other_object"
    at = await undone(portal)
    assert (at.identities, at.questions, at.changing) == ([GUID], [], 0)
    assert untouched(readers)
    assert (card.objects, card.keys, card.pin, card.puk) == before
    error = window_of(agent).error
    assert error is not None
    assert GUID in error.why


@pytest.mark.parametrize("profile", SAID_BY_PERSON, ids=named)
async def test_who_says_no_has_nothing_written_and_tells_the_portal_nothing_of_the_card(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    readers.put(card := personalised(profile))
    before = dict(card.objects)
    agent.windows.this_card = UserCancelled("consent")
    assert await order(agent, portal) == "user_cancelled"
    at = await undone(portal)
    assert (at.identities, at.questions, at.changing) == ([], [], 0)
    assert readers.trace == []
    assert card.objects == before


@pytest.mark.parametrize("moment", ["while it is compared", "afterwards"])
@pytest.mark.parametrize("profile", SAID_BY_PERSON, ids=named)
async def test_another_card_in_its_place_is_refused(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile, moment: str
) -> None:
    """The one that was confirmed is waited for; with it the order goes on once that is confirmed again."""
    card, other = personalised(profile), personalised(profile, OTHER)
    readers.put(card)
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()

    def swap(_reader: str = "One") -> None:
        window.confirming = lambda: None
        readers.put(other)

    if moment == "afterwards":
        readers.tear = lambda number, _apdu: "before" if number == 2 else None
        readers.torn = swap
    else:
        window.confirming = swap
    await window.until_said("is another one, and stays as it is")
    assert untouched(readers)
    assert len(window.confirmed) == 1
    readers.put(card)
    assert await ending == "finished"
    assert (guid_on(card), guid_on(other)) == (FRESH, OTHER)
    assert len(window.confirmed) == 2
    assert next(iter(portal.orders.values())).identities == [GUID]


@pytest.mark.parametrize("profile", SAID_BY_CARD, ids=named)
async def test_a_card_that_tells_another_number_than_the_printed_one_is_never_asked_about(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    other = card_of(profile)
    other.serial = b"\0\0\0\7"
    readers.put(other)
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("is another one, and stays as it is")
    await window.close_by_person()
    assert await ending == "user_cancelled"
    assert (window.confirmed, readers.trace) == ([], [])


@pytest.mark.parametrize("profile", SAID_BY_CARD, ids=named)
async def test_of_cards_that_all_say_the_same_number_each_is_confirmed_where_the_map_says_so(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    same = card_of(profile)
    same.serial = b"\0\0\0\7"
    kind = '[[card]]\nname = "Key"\ndriver = "piv"\naid = "A000000308"\nserial = false\n'
    (agent.folders.machine / "cards.d").mkdir()
    (agent.folders.machine / "cards.d" / "key.toml").write_text(kind)
    readers.put(same)
    assert await order(agent, portal) == "finished"
    assert guid_on(same) == FRESH
    assert len(window_of(agent).confirmed) == 1


async def test_an_order_that_names_no_number_leaves_a_card_with_an_identity_alone(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    first_encoding(portal, AUTHENTICATION, identity=CardIdentity(serial=PRINTED, blank=True))
    readers.put(personalised())
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("is another one, and stays as it is")
    await window.close_by_person()
    assert await ending == "user_cancelled"
    assert (window.confirmed, readers.trace) == ([], [])


@pytest.mark.parametrize("profile", SAID_BY_PERSON, ids=named)
async def test_two_that_may_be_it_the_person_picks_one_and_confirms_it(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    first, second = personalised(profile), personalised(profile, OTHER)
    readers.put(first, "One")
    readers.put(second, "Two")
    agent.windows.choice = 1
    assert await order(agent, portal) == "finished"
    window = window_of(agent)
    assert [row.label for row in window.choices[0]] == ["One", "Two"]
    (asked,) = window.confirmed
    assert f"Is it the card with the number {PRINTED} printed on it?" in " ".join(asked.consequences)
    assert "a7a7a7a7 a7a7a7a7 a7a7a7a7 a7a7a7a7" in " ".join(asked.consequences)
    assert "Everything on this card is replaced" in (asked.warning or "")
    assert (guid_on(first), guid_on(second)) == (GUID, FRESH)


@pytest.mark.parametrize("profile", kinds(2), ids=lambda profile: profile.name)
async def test_every_kind_of_card_is_encoded_by_what_the_portal_says_of_it(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    """As it comes from its maker: nothing is prepared on it, and nothing taken off."""
    readers.put(card := card_of(profile))
    came_with = guid_on(card)
    assert await order(agent, portal) == "finished"
    assert guid_on(card) == FRESH
    assert card.pin == NEW.ljust(8, b"\xff")
    at = next(iter(portal.orders.values()))
    asked = len(window_of(agent).confirmed)
    assert asked == (SERIAL not in profile.yubico)
    assert at.identities == ([came_with] if asked and came_with is not None else [])

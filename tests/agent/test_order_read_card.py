"""*Read card*: not agreed to, pulled out, unreadable, then what every kind of card tells without a try."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.messages import CardReading, ReadCard
from tests.cards.independent.in_reader import card_of, kinds
from tests.cards.profiles import Profile
from tests.support.agent_parts import CODE, AgentParts
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import GUID, encoding_agent, order, personalised, put_back, untouched
from tests.support.simulated_readers import SimulatedReaders


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with encoding_agent(tmp_path / "home", readers, portal) as running:
        portal.operation = ReadCard(driver="piv")
        running.windows.answers = [(None, None)]
        yield running


def reading(portal: FakePortal) -> CardReading:
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert receipt.reading is not None
    return receipt.reading


async def test_nothing_is_read_for_who_does_not_agree(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(personalised())
    agent.windows.answers = []
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until("ask")
    await window.close_by_person()
    assert await ending == "user_cancelled"
    assert readers.trace == []


async def test_a_card_that_goes_while_it_is_read_is_read_when_one_is_there_again(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    torn: list[int] = []

    def tear(number: int, apdu: bytes) -> str | None:
        if torn or apdu[1] != 0xCB:
            return None
        torn.append(number)
        return "before"

    readers.tear = tear
    put_back(readers, card)
    assert await order(agent, portal) == "finished"
    assert torn
    assert reading(portal).guid == GUID


async def test_a_certificate_that_can_not_be_read_is_counted_and_the_others_are_told(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    card.objects[0x5FC105] = bytes.fromhex("7003020101710100FE00")
    card.objects[0x5FC10A] = bytes.fromhex("70053003020101710100FE00")
    readers.put(card)
    assert await order(agent, portal) == "finished"
    told = reading(portal)
    assert (told.omitted, [item.slot for item in told.certificates]) == (1, ["9C"])


async def test_more_certificates_than_a_message_holds_are_counted(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    der = b"\x30\x82\x2a\xf8" + bytes(11_000)
    content = b"\x70\x82" + len(der).to_bytes(2, "big") + der + bytes.fromhex("710100FE00")
    for tag in (0x5FC105, 0x5FC10A, 0x5FC10B, 0x5FC101):
        card.objects[tag] = content
    readers.put(card)
    assert await order(agent, portal) == "finished"
    told = reading(portal)
    assert (len(told.certificates), told.omitted) == (2, 2)


@pytest.mark.parametrize("profile", kinds(5), ids=lambda profile: profile.name)
async def test_every_kind_of_card_tells_what_it_is_and_no_try_is_spent(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    card = personalised(profile) if profile.chuid else card_of(profile)
    readers.put(card)
    assert await order(agent, portal) == "finished"
    told = reading(portal)
    assert told.guid == (GUID if profile.chuid else None)
    assert told.pin_tries == profile.pin_tries
    assert told.puk_tries == (profile.puk_tries if profile.metadata else None)
    assert (card.pin_left, card.puk_left) == (profile.pin_tries, profile.puk_tries)
    assert untouched(readers)
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert receipt.guid == (GUID if profile.chuid else "0" * 32)


async def test_with_several_cards_the_person_says_which_is_read(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.readers.append("Three")
    readers.put(personalised(), "One")
    readers.put(personalised(guid="ee" * 16), "Two")
    agent.windows.choice = 1
    assert await order(agent, portal) == "finished"
    assert reading(portal).guid == "ee" * 16
    rows = agent.windows.opened[-1].choices[0]
    assert [(row.label, row.usable) for row in rows] == [("One", True), ("Two", True), ("Three", False)]
    assert rows[2].detail == "No card is in it."

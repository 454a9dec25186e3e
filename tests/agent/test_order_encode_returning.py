"""A card in the hands of an order *encode card*, torn out, put back, taken for another one, waited for in vain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.cards.simulated import PIN
from tests.support.agent_parts import CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    NEW,
    WRONG,
    encode,
    encoding_agent,
    first_encoding,
    order,
    personalised,
    put_back,
    window_of,
)
from tests.support.simulated_readers import SimulatedReaders


@pytest.fixture
def readers() -> SimulatedReaders:
    return SimulatedReaders()


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with encoding_agent(tmp_path / "home", readers, portal) as running:
        yield running


# --- torn out at every command


async def complete(agent: AgentParts, portal: FakePortal, way: str, code: str) -> str:
    if way == "first":
        first_encoding(portal, AUTHENTICATION, SIGNATURE)
        agent.windows.answers = [(None, NEW)]
    else:
        encode(portal, AUTHENTICATION, SIGNATURE)
        agent.windows.answers = [(None, None), (PIN, None), (PIN, None)]
    return await order(agent, portal, code)


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("way", ["first", "again"])
async def test_torn_out_at_any_command_and_put_back_it_goes_on_where_it_was(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str, side: str
) -> None:
    readers.put(personalised())
    assert await complete(agent, portal, way, CODE) == "finished"
    commands = len(readers.trace)
    readers.take()
    for number in range(1, commands + 1):
        card = personalised()
        lowest = [card.pin_left, card.puk_left]
        readers.put(card)
        put_back(readers, card)
        readers.trace.clear()

        def tear(
            count: int, _apdu: bytes, at: int = number, seen: list[int] = lowest, of: Any = card
        ) -> str | None:
            seen[:] = [min(seen[0], of.pin_left), min(seen[1], of.puk_left)]
            return side if count == at else None

        readers.tear = tear
        code = f"{number:02d}cdefghijklmnopqrstuv"
        assert await complete(agent, portal, way, code) == "finished", (number, portal.orders[code].undone)
        assert lowest == [card.profile.pin_tries, card.profile.puk_tries], number
        assert {0x9A, 0x9C} <= set(card.keys)
        assert {0x5FC105, 0x5FC10A} <= set(card.objects)
        readers.tear = lambda _number, _apdu: None
        readers.take()


async def test_another_card_put_in_after_a_tear_is_not_touched(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card, other = personalised(), personalised(guid="ab" * 16)
    before = dict(other.objects)
    readers.put(card)
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    readers.tear = lambda _number, apdu: "after" if apdu[1] == 0x47 and len(card.keys) == 0 else None
    readers.torn = lambda _reader: readers.put(other, "Two")
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("another one")
    readers.put(card)
    assert await ending == "finished"
    assert (other.objects, other.keys) == (before, {})


async def test_a_pin_whose_answer_never_came_is_typed_again_by_the_person(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    put_back(readers, card)
    torn: list[int] = []

    def tear(number: int, apdu: bytes) -> str | None:
        if apdu[1] == 0x20 and len(apdu) > 5 and not torn:
            torn.append(number)
            return "after"
        return None

    readers.tear = tear
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (WRONG, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    assert "a try may have been spent" in (window_of(agent).asked[-1].warning or "")
    sent = [apdu for apdu in readers.trace if apdu[1] == 0x20 and len(apdu) > 5 and apdu[5:11] == WRONG]
    assert len(sent) == 1

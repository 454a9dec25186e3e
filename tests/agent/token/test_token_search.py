"""A card whose module shows it later than its reader does: waited for, given up, read."""

from __future__ import annotations

import asyncio

import pytest

from agent import token_search
from protocol.messages import ReadCard, VerifyPin
from protocol.tokens import token_guid
from tests.support.agent_parts import CODE, AgentParts
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import order
from tests.support.token_readers import PIN, TokenReaders

CONSENT = (None, None)


def verify(portal: FakePortal, serial: str) -> None:
    portal.operation = VerifyPin(card="card-1", driver="pkcs11", guid=token_guid(serial), label="Card 7")


async def test_a_card_that_its_module_never_shows_is_said_to_be_there_and_can_be_given_up(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    verify(portal, serial)
    readers.blind(1000)
    agent.windows.answers = [CONSENT]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("its module doesn't show it yet")
    await window.close_by_person()
    assert await ending == "user_cancelled"
    assert sum("doesn't show it yet" in text for text in window.texts) == 1


async def test_one_that_is_put_in_when_its_module_is_asked_already_goes_on_by_itself(
    agent: AgentParts,
    portal: FakePortal,
    readers: TokenReaders,
    serial: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(token_search, "FIRST_SECONDS", 0.01)
    verify(portal, serial)
    readers.take()
    readers.blind(3)
    agent.windows.answers = [CONSENT, (PIN, None)]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("Put the card “Card 7” in the reader")
    readers.put()
    assert await ending == "finished"
    assert readers.still_blind == 0


async def test_one_that_is_taken_out_before_its_module_has_seen_it_is_waited_for(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    verify(portal, serial)
    readers.blind(1000)
    agent.windows.answers = [CONSENT, (PIN, None)]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("its module doesn't show it yet")
    readers.take()
    await window.until_said("Put the card “Card 7” in the reader")
    readers.blind(0)
    readers.put()
    assert await ending == "finished"


async def test_it_is_read_as_soon_as_its_module_shows_it(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    portal.operation = ReadCard(driver="pkcs11")
    readers.blind(2)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "finished"
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert receipt.guid == token_guid(serial)
    assert readers.still_blind == 0

"""*Encode card* while pcscd goes away and comes back: the card is waited for, and the work goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.pcsc import scard
from agent.vsc.card import VirtualCard
from tests.cards.simulated import PIN
from tests.support.agent_parts import AgentParts, PcscReadersOfATest
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.pcscd import PrivatePcscd
from tests.support.physical_orders import encode, encoding_agent, order
from tests.support.processes import wait_until
from tests.support.virtual_cards import InReader, factory_card

pytestmark = pytest.mark.interop
CODE = "abcdefghijklmnopqrstuv"
LASTING = ThreadPoolExecutor(1)
"""pcscd ends with the thread that started it (PR_SET_PDEATHSIG): this one lasts as long as the test run."""


@pytest.fixture
def card(tmp_path: Path) -> VirtualCard:
    return factory_card(tmp_path)


@pytest.fixture
async def agent(
    tmp_path: Path, pcscd: PrivatePcscd, portal: FakePortal, no_keystore: None
) -> AsyncIterator[AgentParts]:
    wait_until(lambda: not any(reader.present for reader in scard.list_readers()), "empty readers")
    async with encoding_agent(tmp_path / "home", PcscReadersOfATest(), portal) as running:
        running.windows.answers = [(None, None), (PIN, None)]
        yield running


async def test_stopped_while_the_portal_is_awaited_and_started_again_it_is_finished(
    agent: AgentParts, portal: FakePortal, pcscd: PrivatePcscd, card: VirtualCard
) -> None:
    portal.faults.silent = {"requests"}
    encode(portal, AUTHENTICATION, SIGNATURE, guid=card.guid.hex())
    with InReader(card, pcscd.vpcd_ports[0]):
        ending = asyncio.create_task(order(agent, portal))
        at = await (await portal.claimed(CODE)).until(lambda item: item.requests is not None)
        assert at.requests is not None
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(LASTING, pcscd.stop)
        await portal.say(at, portal.ca.answer(at.order, at.requests, at.consented))
        window = agent.windows.opened[0]
        await window.until_said("pcscd")
        await loop.run_in_executor(LASTING, pcscd.start)
        assert await ending == "finished"
    assert at.changing == 1
    assert len(at.questions) == 2
    assert len(window.asked) == 2
    assert card.details().pin_tries == 3

"""*Encode card* with the PIN typed at a reader with a pad: real pcscd, a driver with its features, our card in it."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agent.pcsc import scard
from agent.vsc.card import VirtualCard
from protocol.messages import PinEntry
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts, PcscReadersOfATest
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.pcscd import PrivatePcscd
from tests.support.physical_orders import encode, encoding_agent, kept, order, undone
from tests.support.pin_pad_reader import CANCELLED, READER, PinPad, pin_pad
from tests.support.processes import wait_until
from tests.support.virtual_cards import PIN, factory_card

pytestmark = pytest.mark.interop
AT_PAD = PinEntry(kind="verify", where="pad")


@pytest.fixture
def card(tmp_path: Path) -> VirtualCard:
    return factory_card(tmp_path)


@pytest.fixture
def pad(pcscd: PrivatePcscd, card: VirtualCard) -> Iterator[PinPad]:
    """The reader with the card in it; its socket's path is a short one."""
    with tempfile.TemporaryDirectory() as folder, pin_pad(Path(folder), pcscd, card) as running:
        wait_until(lambda: any(each.name == READER and each.present for each in scard.list_readers()), "it")
        yield running


@pytest.fixture
async def agent(
    tmp_path: Path, pad: PinPad, portal: FakePortal, no_keystore: None
) -> AsyncIterator[AgentParts]:
    async with encoding_agent(tmp_path / "home", PcscReadersOfATest(), portal) as running:
        running.windows.answers = [(None, None)]
        yield running


async def test_cancelled_at_the_pad_the_card_stays_as_it_was(
    agent: AgentParts, portal: FakePortal, pad: PinPad, card: VirtualCard
) -> None:
    pad.typed += [CANCELLED]
    encode(portal, AUTHENTICATION, guid=card.guid.hex(), pin=AT_PAD)
    assert await order(agent, portal) == "pad_cancelled"
    assert (await undone(portal)).changing == 0
    assert card.details().pin_tries == 3


async def test_encoded_and_extended_with_the_pin_at_the_pad_alone(
    agent: AgentParts, portal: FakePortal, pad: PinPad, card: VirtualCard
) -> None:
    pad.typed += [b"999999", *[PIN] * 8]
    encode(portal, AUTHENTICATION, SIGNATURE, guid=card.guid.hex(), pin=AT_PAD)
    assert await order(agent, portal) == "finished", portal.orders[CODE].undone
    encode(portal, kept(AUTHENTICATION), guid=card.guid.hex(), pin=PinEntry(kind="verify", where="auto"))
    assert await order(agent, portal, OTHER_CODE) == "finished", portal.orders[OTHER_CODE].undone
    assert [len(window.asked) for window in agent.windows.opened] == [1, 1]
    assert card.details().pin_tries == 3

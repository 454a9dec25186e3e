"""A card that has to prove itself by its management key: look-alikes are told nothing, then the true one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protocol.messages import Binding, ChangePuk, ManagementAlgorithm, ManagementKey, PinPolicy, UnblockPin
from tests.cards.independent.in_reader import independent
from tests.cards.profiles import METADATA, PROFILES, RESET, Profile
from tests.cards.simulated import FACTORY_KEY, PUK, SimulatedCard, factory_key
from tests.support.agent_parts import CODE, AgentParts, running_agent
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    FRESH,
    GUID,
    NEW,
    encode,
    first_encoding,
    instructions,
    order,
    personalised,
    undone,
    untouched,
)
from tests.support.simulated_readers import SimulatedReaders

OWN_KEY, NEW_PUK = bytes(range(101, 125)), b"97531864"
FULL = next(each for each in PROFILES if METADATA in each.yubico and each.mutual and RESET in each.yubico)
NO_WITNESS = next(each for each in PROFILES if not each.mutual)
PROVES = ManagementKey(algorithm=ManagementAlgorithm.AES_192, proves=True)
CONSENT, NEW_PIN = (None, None), (None, NEW)


@pytest.fixture
def readers() -> SimulatedReaders:
    return SimulatedReaders()


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with running_agent(tmp_path / "home", readers) as running:
        running.trust_portal(portal)
        portal.binding = Binding.NONE
        portal.management_keys, portal.puk = [OWN_KEY], PUK
        yield running


def with_key(key: bytes, profile: Profile = FULL) -> SimulatedCard:
    """A card that says that it is the one, with this management key."""
    card = personalised(profile)
    card.keys_by_algorithm = {algorithm: key for algorithm in card.keys_by_algorithm}
    return card


def ordered(portal: FakePortal, way: str) -> None:
    which: dict[str, Any] = {
        "card": "card-1",
        "driver": "piv",
        "guid": GUID,
        "label": "Card 7",
        "management": PROVES,
    }
    if way == "unblock":
        portal.operation = UnblockPin(**which, pin_policy=PinPolicy(), puk="escrow")
    elif way == "change puk":
        portal.new_puk = NEW_PUK
        portal.operation = ChangePuk(**which, puk="escrow")
    else:
        encode(portal, AUTHENTICATION, management=PROVES)


@pytest.mark.parametrize("way", ["unblock", "change puk", "encode"])
@pytest.mark.parametrize("alike", ["another key", "no witness"])
async def test_a_card_that_only_says_that_it_is_the_one_is_told_and_given_nothing(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str, alike: str
) -> None:
    card = with_key(FACTORY_KEY) if alike == "another key" else with_key(OWN_KEY, NO_WITNESS)
    readers.put(card)
    ordered(portal, way)
    agent.windows.answers = [CONSENT, (card.pin.rstrip(b"\xff"), None) if way == "encode" else NEW_PIN]
    code = "card_management_wrong" if alike == "another key" else "card_not_proved"
    assert await order(agent, portal) == code
    at = await undone(portal)
    assert (at.proved, at.changing, at.requests) == ([], 0, None)
    assert untouched(readers)
    assert all(question.challenge is None for question in at.questions)
    assert card.puk_left == card.profile.puk_tries


async def test_one_put_in_its_place_after_the_proof_is_told_nothing_either(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card, alike = with_key(OWN_KEY), with_key(FACTORY_KEY)
    readers.put(card)
    ordered(portal, "unblock")

    def exchanged() -> None:
        if portal.orders[CODE].proved and readers.take() is not alike:
            readers.put(alike)

    agent.windows.answers = [CONSENT, NEW_PIN]
    work = asyncio.create_task(order(agent, portal))
    (await agent.windows.first()).asking = exchanged
    assert await work == "card_management_wrong"
    assert (await undone(portal)).proved
    assert (alike.puk_left, 0x2C in instructions(readers)) == (alike.profile.puk_tries, False)


@pytest.mark.parametrize("way", ["unblock", "change puk", "encode"])
async def test_the_true_card_proves_itself_and_then_gets_what_waited(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str
) -> None:
    card = with_key(OWN_KEY)
    card.pin_left = 0 if way == "unblock" else card.pin_left
    readers.put(card)
    ordered(portal, way)
    agent.windows.answers = [CONSENT, (card.pin.rstrip(b"\xff"), None) if way == "encode" else NEW_PIN]
    assert await order(agent, portal) == "finished"
    at = portal.orders[CODE]
    assert at.proved
    assert {question.number for question in at.questions} >= {told.number for told in at.proved}
    if way == "unblock":
        assert card.pin == NEW.ljust(8, b"\xff")
    elif way == "change puk":
        assert card.puk == NEW_PUK


async def test_a_blocked_card_proves_itself_before_it_is_reset(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = with_key(FACTORY_KEY)
    card.pin_left = card.puk_left = 0
    readers.put(card)
    portal.management_keys, portal.new_puk = [OWN_KEY], NEW_PUK
    proves = ManagementKey(replace=[ManagementAlgorithm.AES_192], proves=True)
    first_encoding(portal, AUTHENTICATION, guid=FRESH, new_puk=True, reset=True, management=proves)
    agent.windows.answers = [NEW_PIN, CONSENT]
    assert await order(agent, portal) == "card_management_wrong"
    assert 0xFB not in instructions(readers)
    assert (card.pin_left, card.puk_left) == (0, 0)


@pytest.mark.parametrize("guid", [GUID, FRESH])
@pytest.mark.parametrize(
    "profile", [FULL, *independent(3, lambda kind: RESET in kind.yubico)], ids=lambda kind: kind.name
)
async def test_once_it_has_it_goes_on_with_its_makers_key(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile, guid: str
) -> None:
    """What was read of it before the reset isn't believed any more: not that it had the order's GUID already."""
    card = with_key(OWN_KEY, profile)
    card.objects.update(personalised(profile, guid).objects)
    card.pin_left = card.puk_left = 0
    readers.put(card)
    portal.management_keys, portal.new_puk = [OWN_KEY, FACTORY_KEY], NEW_PUK
    replace = [ManagementAlgorithm.AES_192, ManagementAlgorithm.TRIPLE_DES]
    proves = ManagementKey(replace=replace, proves=True)
    first_encoding(portal, AUTHENTICATION, guid=FRESH, new_puk=True, reset=True, management=proves)
    portal.puk = PUK
    agent.windows.answers = [NEW_PIN, CONSENT]
    assert await order(agent, portal) == "finished"
    at = portal.orders[CODE]
    assert at.questions[0].refused == 0
    assert at.questions[-1].refused == 1
    assert (card.puk, card.pin) == (NEW_PUK, NEW.ljust(8, b"\xff"))
    assert factory_key(card.management) not in card.keys_by_algorithm.values()
    assert bytes.fromhex(FRESH) in card.objects[0x5FC102]

"""How many APDUs an order *encode card* costs, step by step, so that none creeps in; and what it believes of a key."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from bench.encode_steps import (
    BACK,
    FIND,
    IDENTITY,
    KEY,
    KEYS,
    NEW_KEY,
    PIN,
    PROOFS,
    PUK,
    REQUESTS,
    WRITE,
    count,
)
from protocol.messages import KeySource, ManagementAlgorithm, ManagementKey
from tests.cards.profiles import PROFILES, TDES, Profile
from tests.cards.simulated import FACTORY_KEY, SimulatedCard
from tests.cards.simulated import PIN as CARDS_PIN
from tests.support.agent_parts import CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION, ENCRYPTION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    NEW,
    encode,
    encoding_agent,
    first_encoding,
    kept,
    order,
    personalised,
    undone,
    untouched,
)
from tests.support.simulated_readers import SimulatedReaders

MADE = msgspec.structs.replace(ENCRYPTION, source=KeySource.GENERATE)
YUBICO = dataclasses.replace(PROFILES[1], name="new, everything of Yubico's", management=(TDES,), chuid=False)
STANDARD = dataclasses.replace(PROFILES[0], name="new, nothing beyond the standard", chuid=False)
ON_YUBICO = {
    FIND: 8,  # the look is six; then it is selected, and its CHUID read, by the connection that is held
    KEY: 3,
    PUK: 2,
    PIN: 1,
    IDENTITY: 3,
    KEYS: 3,
    REQUESTS: 4,
    WRITE: 6,
    NEW_KEY: 1,
    BACK: 6,
    PROOFS: 7,  # this card forgets the PIN with the use of 9C: one command finds that out, once
}
ON_STANDARD = ON_YUBICO | {
    FIND: 9,  # it doesn't tell how many tries are left by metadata
    KEY: 7,  # nor which algorithm its management key has
    PUK: 3,  # what it doesn't have is no sign that its application is gone: that is asked
    NEW_KEY: 2,
}


@pytest.fixture
def readers() -> SimulatedReaders:
    return SimulatedReaders()


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with encoding_agent(tmp_path / "home", readers, portal) as running:
        yield running


async def test_a_key_of_the_algorithm_that_the_portal_names_and_not_the_portals_is_refused(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(personalised())
    portal.management_keys = [bytes(24), bytes(range(24))]
    encode(portal, AUTHENTICATION, management=ManagementKey(algorithm=ManagementAlgorithm.TRIPLE_DES))
    agent.windows.answers = [(None, None), (CARDS_PIN, None)]
    assert await order(agent, portal) == "card_management_wrong"
    assert [question.refused for question in (await undone(portal)).questions] == [0, 1, 2]
    assert untouched(readers)


@pytest.mark.parametrize("proves", [False, True])
@pytest.mark.parametrize("profile", [YUBICO, STANDARD], ids=["Yubico", "standard"])
async def test_where_the_portal_names_another_algorithm_the_card_is_asked(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile, proves: bool
) -> None:
    readers.put(personalised(profile))
    named = ManagementKey(algorithm=ManagementAlgorithm.AES_192, proves=proves)
    encode(portal, AUTHENTICATION, management=named)
    agent.windows.answers = [(None, None), (CARDS_PIN, None)]
    assert await order(agent, portal) == "finished"
    assert {question.algorithm for question in portal.orders[CODE].questions} == {
        ManagementAlgorithm.TRIPLE_DES
    }


@pytest.mark.parametrize("named", [False, True])
async def test_the_algorithm_that_the_portal_names_is_not_asked_of_the_card(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, named: bool
) -> None:
    card = personalised(PROFILES[0])
    readers.put(card)
    algorithm = ManagementAlgorithm.TRIPLE_DES if named else None
    encode(portal, AUTHENTICATION, management=ManagementKey(algorithm=algorithm))
    agent.windows.answers = [(None, None), (CARDS_PIN, None)]
    assert await order(agent, portal) == "finished"
    with_key = [apdu for apdu in card.commands if apdu[1] in (0x87, 0xF7) and apdu[3] == 0x9B]
    assert len(with_key) == (2 if named else 7)


@pytest.mark.parametrize(
    ("profile", "expected"), [(YUBICO, ON_YUBICO), (STANDARD, ON_STANDARD)], ids=["Yubico", "standard"]
)
async def test_a_new_card_needs_no_more(
    agent: AgentParts,
    portal: FakePortal,
    readers: SimulatedReaders,
    profile: Profile,
    expected: dict[str, int],
) -> None:
    card = SimulatedCard(profile)
    readers.put(card)
    replacing = ManagementKey(replace=[ManagementAlgorithm.TRIPLE_DES])
    first_encoding(portal, AUTHENTICATION, SIGNATURE, MADE, new_puk=True, management=replacing)
    portal.new_puk = b"97531864"
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "finished"
    assert sorted(card.keys) == [0x9A, 0x9C, 0x9D]
    assert (card.keys_by_algorithm[TDES] == FACTORY_KEY) == (profile is STANDARD)
    assert count(card.commands) == expected


async def test_the_keys_of_a_card_that_are_kept_need_no_more(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(YUBICO)
    readers.put(card)
    encode(portal, AUTHENTICATION, SIGNATURE)
    agent.windows.answers = [(None, None), (CARDS_PIN, None), (CARDS_PIN, None)]
    assert await order(agent, portal) == "finished"
    card.commands.clear()
    kept_keys = [kept(AUTHENTICATION), kept(SIGNATURE)]
    encode(portal, *kept_keys, management=ManagementKey(algorithm=ManagementAlgorithm.TRIPLE_DES))
    agent.windows.answers = [(None, None), (CARDS_PIN, None)]
    assert await order(agent, portal, "ABCDEFGHIJKLMNOPQRSTUV") == "finished"
    assert (
        len(card.commands) == 31
    )  # it is selected once more after the person has typed, and tells both keys

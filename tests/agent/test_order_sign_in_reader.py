"""*Authenticate* and *sign* with a card in a reader: refused, wrong, pulled out, then what every kind of card signs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.errors import InlayError
from protocol.messages import Authenticate, Binding, Sign
from tests.agent.test_order_authenticate_sign import CHALLENGE, DIGEST, check
from tests.cards.independent.in_reader import card_of, kinds
from tests.cards.profiles import PROFILES, Profile
from tests.cards.simulated import FACTORY_KEY, PUK, SimulatedCard
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts, running_agent
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import Answer
from tests.support.physical_orders import FRESH, GUID, first_encoding, personalised
from tests.support.simulated_readers import SimulatedReaders

PIN = b"135790"
CONSENT: Answer = (None, None)


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with running_agent(tmp_path / "home", readers) as running:
        running.trust_portal(portal)
        portal.binding, portal.management_keys, portal.puk = Binding.NONE, [FACTORY_KEY], PUK
        yield running


async def order(agent: AgentParts, portal: FakePortal, code: str) -> str:
    """Carry an order out; the code of its end."""
    try:
        async with asyncio.timeout(30):
            await agent.submit(portal, code).wait()
    except InlayError as error:
        return error.code
    return "finished"


async def encoded(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> SimulatedCard:
    """A card with keys to log in and sign, in a reader; the next order is about it."""
    card = personalised(profile) if profile.chuid else card_of(profile)
    readers.put(card)
    first_encoding(portal, AUTHENTICATION, SIGNATURE)
    agent.windows.answers = [(None, PIN)]
    assert await order(agent, portal, CODE) == "finished"
    readers.trace.clear()
    return card


def authenticate(portal: FakePortal, guid: str = FRESH) -> None:
    portal.operation = Authenticate(
        card="card-1", driver="piv", guid=guid, label="Card 7", challenge=CHALLENGE
    )


def sign(portal: FakePortal) -> None:
    portal.operation = Sign(
        card="card-1", driver="piv", guid=FRESH, label="Card 7", document="contract.pdf", digest=DIGEST
    )


async def test_a_card_without_the_key_says_which_one_is_missing(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(personalised())
    authenticate(portal, GUID)
    agent.windows.answers = [CONSENT, (b"123456", None)]
    assert await order(agent, portal, OTHER_CODE) == "card_key_missing"


async def test_a_wrong_pin_is_asked_again_and_a_blocked_one_ends_it(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = await encoded(agent, portal, readers, PROFILES[0])
    authenticate(portal)
    agent.windows.answers = [CONSENT, (b"000000", None), (PIN, None)]
    assert await order(agent, portal, OTHER_CODE) == "finished"
    assert card.pin_left == card.profile.pin_tries
    agent.windows.answers = [CONSENT, (b"000001", None), (b"000002", None), (b"000003", None)]
    assert await order(agent, portal, "0123456789abcdefghijkl") == "card_pin_blocked"


@pytest.mark.parametrize("side", ["before", "after"])
async def test_pulled_out_at_any_command_it_signs_once_the_card_is_back(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, side: str
) -> None:
    card = await encoded(agent, portal, readers, PROFILES[0])
    sign(portal)
    agent.windows.answers = [CONSENT, (PIN, None)]
    assert await order(agent, portal, OTHER_CODE) == "finished"
    commands = len(readers.trace)
    readers.torn = lambda reader: readers.put(card, reader)
    for number in range(1, commands + 1):
        readers.trace.clear()
        readers.tear = lambda count, _apdu, at=number: side if count == at else None  # type: ignore[misc]
        agent.windows.answers = [CONSENT, (PIN, None), (PIN, None)]
        code = f"{number:02d}cdefghijklmnopqrstuv"
        assert await order(agent, portal, code) == "finished", (number, portal.orders[code].undone)
        receipt = portal.orders[code].receipt
        assert receipt is not None
        assert receipt.signature is not None
        check(receipt.signature, DIGEST)
        assert card.pin_left == card.profile.pin_tries


@pytest.mark.parametrize("way", ["authenticate", "sign"])
@pytest.mark.parametrize("profile", kinds(0), ids=lambda profile: profile.name)
async def test_every_kind_of_card_signs(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile, way: str
) -> None:
    card = await encoded(agent, portal, readers, profile)
    digest = DIGEST
    if way == "sign":
        sign(portal)
    else:
        authenticate(portal)
        parts = (hashlib.sha256(text.encode()).digest() for text in (portal.origin, CHALLENGE))
        digest = hashlib.sha256(b"".join(parts)).digest()
    agent.windows.answers = [CONSENT, (PIN, None)]
    assert await order(agent, portal, OTHER_CODE) == "finished", portal.orders[OTHER_CODE].undone
    receipt = portal.orders[OTHER_CODE].receipt
    assert receipt is not None
    assert receipt.guid == FRESH
    assert receipt.signature is not None
    check(receipt.signature, digest)
    assert not card.pin_ok
    assert PIN not in agent.everything_written()

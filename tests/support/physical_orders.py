"""Orders *encode card* for simulated cards, as tests have them: what is ordered, carried out, and seen of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from portal.processes import temporary_card_encoding
from portal.store.tables import Card
from protocol import codec
from protocol.errors import InlayError
from protocol.messages import (
    Algorithm,
    Binding,
    CardIdentity,
    CardStep,
    EncodeCard,
    KeyOrder,
    KeySource,
    ManagementAlgorithm,
    ManagementKey,
    PinEntry,
    PinPolicy,
    Purpose,
)
from tests.cards.independent.in_reader import card_of
from tests.cards.profiles import P_256, PROFILES, Profile
from tests.cards.simulated import FACTORY_KEY, PUK, SimulatedCard
from tests.support.agent_parts import CODE, AgentParts, HasReaders, running_agent
from tests.support.fake_order import OrderAtPortal
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import FakeWindow
from tests.support.simulated_readers import SimulatedReaders

GUID, FRESH = "d6" * 16, "0f" * 16
WRONG, NEW = b"000000", b"135790"
NEW_KEY = bytes(range(1, 25))
PRINTED = str(0x01020304)
"""On every simulated card: those that have GET SERIAL tell it, too."""
ENCRYPTION = KeyOrder("9D", Purpose.ENCRYPTION, Algorithm.P_256, KeySource.IMPORT, "CN=Alex Example")
ENCRYPTION_RSA = KeyOrder("9D", Purpose.ENCRYPTION, Algorithm.RSA_2048, KeySource.IMPORT, "CN=Alex Example")
LEFT_TO_CARD = KeyOrder(
    "9D", Purpose.ENCRYPTION, Algorithm.P_256, KeySource.IMPORT_IF_POSSIBLE, "CN=Alex Example"
)
FULL = PROFILES[0]


REISSUED = CardIdentity(previous=GUID)
"""By what the portal names a card that it has encoded for somebody else before."""


def kept(key: KeyOrder) -> KeyOrder:
    return KeyOrder(key.slot, key.purpose, key.algorithm, KeySource.KEEP, key.subject)


def personalised(profile: Profile = FULL, guid: str = GUID) -> SimulatedCard:
    """A card that has a CHUID with this GUID."""
    card = card_of(profile)
    card.objects[0x5FC102] = bytes.fromhex(f"3019{'D4' * 25}3410{guid}350832303330313233313E00FE00")
    return card


def with_keys_of_before(card: SimulatedCard, *slots: int) -> SimulatedCard:
    """A card that has retired keys of somebody, as its key history says."""
    for slot in slots:
        card.keys[slot] = (P_256, ec.generate_private_key(ec.SECP256R1()))
        card.objects[0x5FC10D + slot - 0x82] = b"\x70\x01\x00\x71\x01\x00\xfe\x00"
    card.objects[0x5FC10C] = bytes((0xC1, 1, len(slots), 0xC2, 1, 0, 0xFE, 0))
    return card


def encode(portal: FakePortal, *keys: KeyOrder, **changes: Any) -> None:
    """Have the portal's next order encode the card of `GUID`, whose PIN stays."""
    portal.operation = EncodeCard(
        **{
            "card": "card-1",
            "driver": "piv",
            "guid": GUID,
            "label": "Card 7",
            "valid_until": int(time.time()) + 10_000_000,
            "pin": PinEntry(kind="verify"),
            "keys": list(keys),
            "management": ManagementKey(),
            **changes,
        }
    )


def portals_identity(printed: str = PRINTED) -> CardIdentity:
    """By what the portal itself names a card that was never encoded and has this number printed on it."""
    told = temporary_card_encoding.identity(Card(serial=printed, guid=FRESH), None)
    return codec.convert(told, CardIdentity, malformed="internal")


def first_encoding(portal: FakePortal, *keys: KeyOrder, **changes: Any) -> None:
    """Have the portal's next order give a card that was never encoded GUID, PIN, keys, certificates, management key."""
    portal.new_key = NEW_KEY
    encode(
        portal,
        *keys,
        **{
            "guid": FRESH,
            "identity": portals_identity(),
            "pin": PinEntry(kind="new", policy=PinPolicy()),
            "steps": [CardStep.SET_PIN],
            "management": ManagementKey(replace=[ManagementAlgorithm.AES_192]),
            **changes,
        },
    )


async def order(agent: AgentParts, portal: FakePortal, code: str = CODE) -> str:
    """Carry an order out; the code of its end."""
    try:
        async with asyncio.timeout(30):
            await agent.submit(portal, code).wait()
    except InlayError as error:
        return error.code
    return "finished"


def window_of(agent: AgentParts) -> FakeWindow:
    return agent.windows.opened[-1]


async def undone(portal: FakePortal, code: str = CODE) -> OrderAtPortal:
    return await portal.orders[code].until(lambda at: at.undone is not None)


def instructions(readers: SimulatedReaders) -> list[int]:
    """What was sent in sessions, GET RESPONSE and the pieces of a chain counted once."""
    return [apdu[1] for apdu in readers.trace if apdu[1] != 0xC0 and not apdu[0] & 0x10]


CHANGING = frozenset({0xDB, 0x47, 0x2C, 0x24, 0xFE, 0xFF})
"""PUT DATA, GENERATE, RESET RETRY COUNTER, CHANGE REFERENCE DATA, Yubico's import and SET MANAGEMENT KEY."""


def untouched(readers: SimulatedReaders) -> bool:
    return not CHANGING & set(instructions(readers))


def put_back(readers: SimulatedReaders, card: SimulatedCard) -> None:
    readers.torn = lambda reader: readers.put(card, reader)


@asynccontextmanager
async def encoding_agent(home: Path, readers: HasReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    """An agent with these readers, and a portal that has what a card comes with."""
    async with running_agent(home, readers) as running:
        running.trust_portal(portal)
        portal.binding = Binding.NONE
        portal.management_keys = [FACTORY_KEY]
        portal.puk = PUK
        yield running


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    """An agent with these readers."""
    async with encoding_agent(tmp_path / "home", readers, portal) as running:
        yield running

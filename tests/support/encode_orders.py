"""The order *encode card* with the fake portal and a real core: what its tests have in common."""

from __future__ import annotations

import asyncio
import datetime
import time
from pathlib import Path
from typing import Any

from agent.vsc import objects, personalise
from agent.vsc.card import VirtualCard
from protocol.errors import InlayError
from protocol.messages import (
    Algorithm,
    Binding,
    EncodeCard,
    KeyOrder,
    KeySource,
    PinEntry,
    Purpose,
)
from tests.support.agent_parts import OTHER_CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION, ENCRYPTION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import PIN, FakeWindow

WRONG = b"000000"
KEPT = KeyOrder("9C", Purpose.SIGNATURE, Algorithm.P_256, KeySource.KEEP, "CN=Alex Example")
RETIRED = KeyOrder("82", Purpose.ENCRYPTION, Algorithm.P_256, KeySource.IMPORT, "CN=Alex Example")


async def card_to_encode(agent: AgentParts, portal: FakePortal) -> str:
    """A card with three keys that this portal has ordered; its file's name. The next order gives it a new 9A."""
    portal.keys = [AUTHENTICATION, SIGNATURE, ENCRYPTION]
    await agent.submit(portal).wait()
    portal.binding = Binding.NONE
    (known,) = await agent.care.known()
    assert known.guid is not None
    encode(portal, known.guid, [AUTHENTICATION])
    return known.card


def encode(portal: FakePortal, guid: str, keys: list[KeyOrder], **changes: Any) -> None:
    """Have the portal's next order encode a card."""
    portal.operation = EncodeCard(
        **{
            "card": "card-1",
            "driver": "virtual",
            "guid": guid,
            "label": "Card",
            "valid_until": int(time.time()) + 100_000_000,  # later than a new card
            "pin": PinEntry(kind="verify"),
            "keys": keys,
            **changes,
        }
    )


async def order(agent: AgentParts, portal: FakePortal, code: str = OTHER_CODE) -> str:
    """Carry an order out; the code of its end."""
    agent.windows.answers = agent.windows.answers or [(PIN, None)]
    try:
        async with asyncio.timeout(20):
            await agent.submit(portal, code).wait()
    except InlayError as error:
        return error.code
    return "finished"


async def contents(agent: AgentParts, card: str) -> dict[str, bytes]:
    """Certificate of each key, after each has been used with the PIN."""
    facts = (await agent.care.standing(card)).facts

    def sign(found: Any) -> None:
        for slot in (0x9A, 0x9C):
            assert personalise.sign(found, slot, b"text", bytearray(PIN))

    await agent.cards.use(card, sign)
    return {item.slot: item.certificate for item in facts.certificates}


def chuid_day(card: VirtualCard) -> datetime.date | None:
    """The last day that the card's CHUID tells."""
    return objects.chuid_expiry(card._state.objects[objects.CHUID])


def copies(agent: AgentParts) -> list[Path]:
    """What lies in the folder of copies."""
    return sorted(agent.cards.copies.rglob("*"))


def last_window(agent: AgentParts) -> FakeWindow:
    return agent.windows.opened[-1]


def all_wiped(window: FakeWindow) -> bool:
    secrets = [given.known for given in window.given if given.known is not None]
    return bool(secrets) and not any(any(secret) for secret in secrets)

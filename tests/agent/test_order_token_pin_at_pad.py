"""*Change*, *unblock* and *verify PIN* of a token whose reader asks: cancelled, wrong, torn, then as it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.handlers.pin_at_pad import Where
from protocol.messages import ChangePin, PinEntry, PinPolicy, UnblockPin, VerifyPin
from protocol.tokens import token_guid
from protocol.words import Presence
from tests.support import token_readers
from tests.support.agent_parts import OTHER_CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import order, undone, window_of
from tests.support.token_orders import NEW, WRONG, certificates, encode, objects, token_agent, token_serial
from tests.support.token_readers import PIN, PROTECTED_PATH, SO_PIN, TokenReaders

CANCELLED, WRONG_FORM, BLOCKED = 0x50, 0xA1, 0xA4
KNOWN = {"change": PIN, "unblock": SO_PIN}
RULES = PinPolicy(min_length=4)
WAYS = pytest.mark.parametrize("way", ["change", "unblock"])


@pytest.fixture
def readers(tmp_path: Path, token_shim: Path, monkeypatch: pytest.MonkeyPatch) -> TokenReaders:
    return TokenReaders.with_a_store(tmp_path, token_shim, monkeypatch)


@pytest.fixture
async def agent(tmp_path: Path, readers: TokenReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with token_agent(tmp_path / "home", readers, portal) as running:
        running.windows.answers = [(None, None)]
        token_readers.initialise()
        yield running


async def begin(portal: FakePortal, way: str, **changes: Any) -> None:
    known: dict[str, Any] = {"card": "card-1", "driver": "pkcs11", "label": "Card 7"}
    known["guid"] = token_guid(await token_serial())
    if way == "verify":
        portal.operation = VerifyPin(**known | changes)
    elif way == "change":
        portal.operation = ChangePin(**known | {"pin_policy": RULES} | changes)
    else:
        portal.operation = UnblockPin(**known | {"pin_policy": RULES, "puk": "typed"} | changes)


def nothing_in_the_window(agent: AgentParts) -> bool:
    """Consent is all that was asked for there."""
    return [(given.known, given.pin) for given in window_of(agent).given] == [(None, None)]


@WAYS
async def test_a_reader_without_keys_is_refused_where_it_has_to_be_typed_there(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, way: str
) -> None:
    await begin(portal, way, where="pad")
    assert await order(agent, portal) == "pad_missing"
    assert (await undone(portal)).changing == 0
    assert readers.told() == []


@pytest.mark.parametrize(
    "rules",
    [PinPolicy(), PinPolicy(min_length=4, lower=Presence.REQUIRED)],
    ids=["shorter ones", "letters"],
)
@pytest.mark.parametrize("way", ["change", "unblock", "escrow"])
async def test_keys_that_take_a_weaker_pin_than_is_ordered_never_ask(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, way: str, rules: PinPolicy
) -> None:
    readers.at_pad()
    escrowed = {"puk": "escrow"} if way == "escrow" else {}
    await begin(portal, "unblock" if escrowed else way, pin_policy=rules, **escrowed)
    assert await order(agent, portal) == "pad_rules"
    assert readers.told() == []
    assert nothing_in_the_window(agent)


@WAYS
async def test_cancelled_at_the_reader_it_is_over_and_the_pin_is_what_it_was(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, way: str
) -> None:
    readers.at_pad(CANCELLED, KNOWN[way])
    await begin(portal, way)
    assert await order(agent, portal) == "pad_cancelled"
    assert readers.left_at_pad == 1
    assert await objects(PIN) == []


@WAYS
async def test_wrong_or_not_what_the_card_takes_the_reader_asks_again_and_the_window_says_why(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, way: str
) -> None:
    second = [NEW] if way == "change" else []  # C_SetPIN is told both at once
    readers.at_pad(WRONG, *second, KNOWN[way], WRONG_FORM, KNOWN[way], NEW)
    await begin(portal, way)
    assert await order(agent, portal) == "finished"
    said = [text for text in window_of(agent).texts if "at the keys" in text]
    for words, text in zip(("Type the ", "is wrong", "does not take"), said, strict=True):
        assert words in text
    assert readers.left_at_pad == 0
    assert all(null and length == 0 for _, null, length in readers.told())
    assert nothing_in_the_window(agent)
    assert await objects(NEW) == []


@pytest.mark.parametrize(("way", "code"), [("change", "card_pin_blocked"), ("unblock", "card_puk_blocked")])
async def test_blocked_at_the_reader_ends_it_and_is_not_asked_for_again(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, way: str, code: str
) -> None:
    readers.at_pad(BLOCKED, KNOWN[way])
    await begin(portal, way)
    assert await order(agent, portal) == code
    readers.flags(PROTECTED_PATH | 0x440000)
    assert await order(agent, portal, OTHER_CODE) == code
    assert len(readers.told()) == 1


@pytest.mark.parametrize("moment", ["pull", "lost", "crash"])
async def test_torn_out_while_a_change_is_typed_nobody_claims_to_know_the_pin(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, moment: str
) -> None:
    readers.at_pad(PIN, NEW)
    readers.plan("C_SetPIN", moment)
    await begin(portal, "change")
    assert await order(agent, portal) == "card_pin_unknown"


@pytest.mark.parametrize("escrowed", [False, True])
async def test_torn_out_while_it_is_unblocked_the_person_sets_the_pin_again(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, *, escrowed: bool
) -> None:
    known = [] if escrowed else [SO_PIN]
    readers.at_pad(*known, b"864209", *known, NEW)
    readers.plan("C_InitPIN", "lost")
    await begin(portal, "unblock", puk="escrow" if escrowed else "typed")
    ending = asyncio.create_task(order(agent, portal))
    await (await agent.windows.first()).until_said("Put the card “Card 7” back")
    readers.put()
    assert await ending == "finished"
    assert any("Set it again" in text for text in window_of(agent).texts)
    assert await objects(NEW) == []


async def test_a_puk_of_the_portals_that_is_wrong_or_unanswered_is_sent_once(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    readers.at_pad(NEW)
    await begin(portal, "unblock", puk="escrow")
    readers.plan("C_Login", "crash")
    assert await order(agent, portal) == "pkcs11_unanswered"
    assert readers.told() == []  # it crashed before the module looked at it
    portal.puk = WRONG
    assert await order(agent, portal, OTHER_CODE) == "pkcs11_puk_wrong"
    assert readers.told() == [("C_Login", False, len(WRONG))]
    assert readers.left_at_pad == 1


@pytest.mark.parametrize("where", ["window", "auto", "pad"])
@WAYS
async def test_typed_at_the_reader_alone_whatever_the_order_says(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, way: str, where: str
) -> None:
    """Such a card takes no PIN from elsewhere, so the window asks for none."""
    readers.at_pad(KNOWN[way], NEW)
    await begin(portal, way, where=where)
    assert await order(agent, portal) == "finished"
    assert readers.left_at_pad == 0
    assert all(null and length == 0 for _, null, length in readers.told())
    assert nothing_in_the_window(agent)
    assert await objects(NEW) == []


async def test_verified_at_the_reader_after_a_wrong_one(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    readers.at_pad(WRONG, PIN)
    await begin(portal, "verify")
    assert await order(agent, portal) == "finished"
    assert any("is wrong" in text for text in window_of(agent).texts)
    assert readers.told() == [("C_Login", True, 0)] * 2
    assert nothing_in_the_window(agent)


@pytest.mark.parametrize("where", ["window", "pad", "auto"])
async def test_encoded_with_the_pin_typed_at_the_reader_once(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, where: Where
) -> None:
    """Nothing that follows wants it again: the session stays logged in."""
    readers.at_pad(PIN)
    encode(portal, await token_serial(), AUTHENTICATION, SIGNATURE, pin=PinEntry(kind="verify", where=where))
    assert await order(agent, portal) == "finished"
    assert readers.told() == [("C_Login", True, 0)]
    assert nothing_in_the_window(agent)
    assert sorted(await certificates()) == ["9A", "9C"]

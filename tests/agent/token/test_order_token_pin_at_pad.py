"""*Change*, *unblock* and *verify PIN* of a token whose reader asks: cancelled, wrong, torn, then as it goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.handlers.pin_at_pad import Where
from protocol.messages import ChangePin, PinEntry, PinPolicy, UnblockPin, VerifyPin
from protocol.tokens import token_guid
from tests.support import token_readers
from tests.support.agent_parts import OTHER_CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import order, undone, window_of
from tests.support.token_orders import NEW, WRONG, certificates, encode, objects, token_serial
from tests.support.token_readers import PIN, PROTECTED_PATH, SO_PIN, TokenReaders

CANCELLED, WRONG_FORM, BLOCKED = 0x50, 0xA1, 0xA4
KNOWN = {"change": PIN, "unblock": SO_PIN}
SETS: dict[str, Any] = {"pin_policy": PinPolicy(min_length=4), "where": "pad"}
WAYS = pytest.mark.parametrize("way", ["change", "unblock"])


@pytest.fixture
async def agent(agent: AgentParts, portal: FakePortal) -> AgentParts:
    agent.windows.answers = [(None, None)]
    token_readers.initialise()
    return agent


async def begin(portal: FakePortal, way: str, **changes: Any) -> None:
    known: dict[str, Any] = {"card": "card-1", "driver": "pkcs11", "label": "Card 7"}
    known["guid"] = token_guid(await token_serial())
    if way == "verify":
        portal.operation = VerifyPin(**known | changes)
    elif way == "change":
        portal.operation = ChangePin(**known | SETS | changes)
    else:
        portal.operation = UnblockPin(**known | SETS | {"puk": "typed"} | changes)


def nothing_in_the_window(agent: AgentParts) -> bool:
    """Consent is all that was asked for there."""
    return [(given.known, given.pin) for given in window_of(agent).given] == [(None, None)]


@WAYS
async def test_a_reader_without_keys_is_refused_where_it_has_to_be_typed_there(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, way: str
) -> None:
    await begin(portal, way)
    assert await order(agent, portal) == "pad_missing"
    assert (await undone(portal)).changing == 0
    assert readers.told() == []


@WAYS
async def test_keys_that_take_a_shorter_pin_than_is_ordered_never_ask(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, way: str
) -> None:
    readers.at_pad()
    await begin(portal, way, pin_policy=PinPolicy())
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


async def test_torn_out_while_it_is_unblocked_the_person_sets_the_pin_again(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    readers.at_pad(SO_PIN, b"864209", SO_PIN, NEW)
    readers.plan("C_InitPIN", "lost")
    await begin(portal, "unblock")
    ending = asyncio.create_task(order(agent, portal))
    await (await agent.windows.first()).until_said("Put the card “Card 7” back")
    readers.put()
    assert await ending == "finished"
    assert any("Set it again" in text for text in window_of(agent).texts)
    assert await objects(NEW) == []


@WAYS
async def test_asked_in_vain_again_and_again_it_is_given_up(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, way: str
) -> None:
    readers.at_pad(*[WRONG_FORM] * 4, KNOWN[way])
    await begin(portal, way)
    assert await order(agent, portal) == "pad_refused"
    assert readers.left_at_pad == 1


@pytest.mark.parametrize(
    ("way", "typed", "changes"),
    [
        ("change", [], {"where": "window"}),
        ("unblock", [], {"where": "window"}),
        ("change", [], {"pin_policy": PinPolicy()}),
        ("unblock", [], {"puk": "escrow"}),
        ("change", [WRONG_FORM], {}),
        ("unblock", [SO_PIN, WRONG_FORM], {}),
    ],
    ids=["window", "window, too", "shorter ones", "nobody has the puk", "refused", "refused later"],
)
async def test_where_the_reader_cant_ask_or_must_not_the_window_does(
    agent: AgentParts,
    portal: FakePortal,
    readers: TokenReaders,
    way: str,
    typed: list[bytes | int],
    changes: dict[str, Any],
) -> None:
    readers.at_pad(*typed)
    await begin(portal, way, **{"where": "auto"} | changes)
    agent.windows.answers = [(None, None), (None if "puk" in changes else KNOWN[way], NEW)]
    assert await order(agent, portal) == "finished"
    assert readers.left_at_pad == 0
    assert len([null for _, null, _ in readers.told() if null]) == len(typed)
    assert await objects(NEW) == []


@pytest.mark.parametrize("where", ["auto", "pad"])
@WAYS
async def test_typed_at_the_reader_alone(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, way: str, where: str
) -> None:
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

"""The order *encode card* with the PIN typed at the keys of the reader: nobody else ever has it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.messages import PinEntry
from tests.cards.independent.in_reader import kinds
from tests.cards.profiles import Profile
from tests.cards.simulated import PIN
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    WRONG,
    encode,
    encoding_agent,
    kept,
    order,
    personalised,
    put_back,
    undone,
    untouched,
    window_of,
)
from tests.support.simulated_readers import SimulatedReaders, Typed

AT_PAD, WHERE_IT_CAN = PinEntry(kind="verify", where="pad"), PinEntry(kind="verify", where="auto")
TIMED_OUT, CANCELLED, TOO_SHORT, REFUSED = b"\x64\x00", b"\x64\x01", b"\x64\x03", b"\x6b\x80"
ENOUGH = [PIN] * 8
"""The signature key wants it before each use."""


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with encoding_agent(tmp_path / "home", readers, portal) as running:
        running.windows.answers = [(None, None)]
        yield running


async def test_a_reader_without_keys_is_refused_where_it_has_to_be_typed_there(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(personalised())
    encode(portal, AUTHENTICATION, pin=AT_PAD)
    assert await order(agent, portal) == "pad_missing"
    assert (await undone(portal)).changing == 0
    assert untouched(readers)
    assert len(window_of(agent).asked) == 1


@pytest.mark.parametrize(
    ("typed", "code"),
    [([CANCELLED], "pad_cancelled"), ([TIMED_OUT] * 4, "pad_timeout"), ([REFUSED], "pad_refused")],
)
async def test_what_ends_at_the_pad_changes_nothing_and_spends_no_try(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, typed: list[bytes], code: str
) -> None:
    card = personalised()
    readers.put(card)
    readers.pads["One"] = list(typed)
    encode(portal, AUTHENTICATION, pin=AT_PAD)
    assert await order(agent, portal) == code
    assert card.pin_left == card.profile.pin_tries
    assert readers.pads["One"] == []
    assert untouched(readers)


async def test_a_pin_that_is_blocked_at_the_pad_ends_it_and_is_not_asked_for_again(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    readers.pads["One"] = [WRONG] * card.profile.pin_tries
    encode(portal, AUTHENTICATION, pin=AT_PAD)
    assert await order(agent, portal) == "card_pin_blocked"
    assert await order(agent, portal, OTHER_CODE) == "card_pin_blocked"
    assert untouched(readers)


async def test_a_wrong_pin_is_asked_for_again_with_a_warning_before_the_last_but_one_try(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    readers.pads["One"] = [WRONG, TOO_SHORT, WRONG, *ENOUGH]
    encode(portal, AUTHENTICATION, pin=AT_PAD)
    assert await order(agent, portal) == "finished"
    questions = [text for text in window_of(agent).texts if "at the keys" in text]
    for words, text in zip(("", "2 tries", "2 tries", "last try"), questions, strict=False):
        assert words in text
    assert "The PIN is wrong" in questions[1]
    assert card.pin_left == card.profile.pin_tries


async def test_wrong_in_the_middle_it_is_asked_for_again_there(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    readers.pads["One"] = [PIN, PIN, TIMED_OUT, WRONG, *ENOUGH]
    encode(portal, SIGNATURE, pin=AT_PAD)
    assert await order(agent, portal) == "finished"
    assert card.pin_left == card.profile.pin_tries


async def test_torn_out_while_it_is_typed_the_person_is_asked_again_and_told_why(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    put_back(readers, card)
    readers.pads["One"] = [WRONG, *ENOUGH]
    torn: list[int] = []

    def tear(number: int, apdu: bytes) -> str | None:
        if torn or apdu[1] != 0x20 or len(apdu) < 6:
            return None
        torn.append(number)
        return "after"

    readers.tear = tear
    encode(portal, AUTHENTICATION, pin=AT_PAD)
    assert await order(agent, portal) == "finished"
    assert any("a try may have been spent" in text for text in window_of(agent).texts)
    sent = [apdu for apdu in readers.trace if apdu[1] == 0x20 and apdu[5:11] == WRONG]
    assert len(sent) == 1


async def test_put_back_into_a_reader_without_keys_the_card_is_half_done_and_said_so(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    readers.pads["One"] = list(ENOUGH)
    readers.tear = lambda _number, apdu: "after" if apdu[1] == 0x47 else None

    def put_in_the_other(_reader: str) -> None:
        readers.tear = lambda _number, _apdu: None
        readers.put(card, "Two")

    readers.torn = put_in_the_other
    encode(portal, AUTHENTICATION, pin=AT_PAD)
    assert await order(agent, portal) == "pad_missing"
    error = window_of(agent).error
    assert error is not None
    assert "half done" in error.next_step


@pytest.mark.parametrize("pad", [None, [REFUSED]])
async def test_where_the_reader_cant_ask_the_window_does_if_the_order_lets_it(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, pad: list[Typed] | None
) -> None:
    readers.put(personalised())
    if pad is not None:
        readers.pads["One"] = pad
    encode(portal, AUTHENTICATION, pin=WHERE_IT_CAN)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    assert len(window_of(agent).asked) == 2


@pytest.mark.parametrize("profile", kinds(9), ids=lambda profile: profile.name)
async def test_encoded_and_extended_with_the_pin_at_the_pad_alone(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    card = personalised(profile)
    readers.put(card)
    readers.pads["One"] = list(ENOUGH)
    encode(portal, AUTHENTICATION, SIGNATURE, pin=AT_PAD)
    assert await order(agent, portal) == "finished", portal.orders[CODE].undone
    readers.pads["One"] = list(ENOUGH)
    encode(portal, kept(AUTHENTICATION), kept(SIGNATURE), pin=WHERE_IT_CAN)
    assert await order(agent, portal, OTHER_CODE) == "finished", portal.orders[OTHER_CODE].undone
    assert [len(window.asked) for window in agent.windows.opened] == [1, 1]
    assert all(given.known is None for window in agent.windows.opened for given in window.given)
    assert card.pin_left == profile.pin_tries
    assert not card.pin_ok


async def test_closed_while_the_reader_waits_it_ends_with_the_readers_own_question(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(personalised())
    waiting, closed = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def type_nothing() -> bytes:
        loop.call_soon_threadsafe(waiting.set)
        assert closed.wait(20)
        return TIMED_OUT

    readers.pads["One"] = [type_nothing]
    encode(portal, AUTHENTICATION, pin=AT_PAD)
    ending = asyncio.create_task(order(agent, portal))
    await waiting.wait()
    await agent.windows.opened[0].close_by_person()
    closed.set()
    assert await ending == "user_cancelled"
    assert untouched(readers)

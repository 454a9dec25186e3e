"""A card in the hands of an order *encode card*, torn out, put back, taken for another one, waited for in vain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.returning_card import PhysicalCard, ReturningCard
from protocol.errors import InlayError
from tests.cards.profiles import METADATA, PROFILES, SERIAL
from tests.cards.simulated import PIN, SimulatedCard
from tests.support.agent_parts import CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    FULL,
    GUID,
    NEW,
    WRONG,
    agent,
    encode,
    first_encoding,
    order,
    personalised,
    put_back,
    undone,
    window_of,
)
from tests.support.samples import in_turn
from tests.support.simulated_readers import SimulatedReaders

__all__ = ["agent"]


# --- torn out at every command


async def complete(agent: AgentParts, portal: FakePortal, way: str, code: str) -> str:
    if way == "first":
        first_encoding(portal, AUTHENTICATION, SIGNATURE)
        agent.windows.answers = [(None, NEW)]
    else:
        encode(portal, AUTHENTICATION, SIGNATURE)
        agent.windows.answers = [(None, None), (PIN, None), (PIN, None)]
    return await order(agent, portal, code)


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("way", ["first", "again"])
async def test_torn_out_at_any_command_and_put_back_it_goes_on_where_it_was(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str, side: str
) -> None:
    readers.put(personalised())
    assert await complete(agent, portal, way, CODE) == "finished"
    commands = len(readers.trace)
    readers.take()
    # in a sample each command is torn at on one of its sides, and the next one on the other
    for number in in_turn(range(1, commands + 1), (way == "first") + (side == "after"), 2):
        card = personalised()
        lowest = [card.pin_left, card.puk_left]
        readers.put(card)
        put_back(readers, card)
        readers.trace.clear()

        def tear(
            count: int, _apdu: bytes, at: int = number, seen: list[int] = lowest, of: Any = card
        ) -> str | None:
            seen[:] = [min(seen[0], of.pin_left), min(seen[1], of.puk_left)]
            return side if count == at else None

        readers.tear = tear
        code = f"{number:02d}cdefghijklmnopqrstuv"
        assert await complete(agent, portal, way, code) == "finished", (number, portal.orders[code].undone)
        assert lowest == [card.profile.pin_tries, card.profile.puk_tries], number
        assert {0x9A, 0x9C} <= set(card.keys)
        assert {0x5FC105, 0x5FC10A} <= set(card.objects)
        readers.tear = lambda _number, _apdu: None
        readers.take()


async def test_another_card_put_in_after_a_tear_is_not_touched(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card, other = personalised(), personalised(guid="ab" * 16)
    before = dict(other.objects)
    readers.put(card)
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    readers.tear = lambda _number, apdu: "after" if apdu[1] == 0x47 and len(card.keys) == 0 else None
    readers.torn = lambda _reader: readers.put(other, "Two")
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("another one")
    readers.put(card)
    assert await ending == "finished"
    assert (other.objects, other.keys) == (before, {})


async def test_a_pin_whose_answer_never_came_is_typed_again_by_the_person(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    put_back(readers, card)
    torn: list[int] = []

    def tear(number: int, apdu: bytes) -> str | None:
        if apdu[1] == 0x20 and len(apdu) > 5 and not torn:
            torn.append(number)
            return "after"
        return None

    readers.tear = tear
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (WRONG, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    assert "a try may have been spent" in (window_of(agent).asked[-1].warning or "")
    sent = [apdu for apdu in readers.trace if apdu[1] == 0x20 and len(apdu) > 5 and apdu[5:11] == WRONG]
    assert len(sent) == 1


# --- another card that would have done in the beginning


BLANK = next(profile for profile in PROFILES if not profile.chuid)


@pytest.mark.parametrize("instruction", [0x2C, 0x47, 0x20])
async def test_a_second_blank_card_put_in_after_a_tear_is_another_one(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, instruction: int
) -> None:
    """As good as the first one before that got its GUID; from then on it is another card."""
    card, other = SimulatedCard(BLANK), SimulatedCard(BLANK)
    readers.put(card)
    torn: list[int] = []

    def tear(number: int, apdu: bytes) -> str | None:
        if torn or apdu[1] != instruction or len(apdu) < 6:
            return None
        torn.append(number)
        return "before"

    readers.tear = tear
    readers.torn = lambda _reader: readers.put(other, "Two")
    first_encoding(portal, AUTHENTICATION)
    agent.windows.answers = [(None, NEW)]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("another one")
    readers.put(card)
    assert await ending == "finished"
    assert torn
    assert (other.objects, other.keys) == ({}, {})
    assert (other.pin_left, other.puk_left) == (BLANK.pin_tries, BLANK.puk_tries)


async def test_the_card_of_before_put_in_after_a_tear_is_another_one_once_the_card_has_its_new_guid(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card, twin = personalised(), personalised()
    before = dict(twin.objects)
    readers.put(card)
    torn: list[int] = []

    def tear(number: int, apdu: bytes) -> str | None:
        if torn or apdu[1] != 0x47:
            return None
        torn.append(number)
        return "before"

    readers.tear = tear
    readers.torn = lambda _reader: readers.put(twin, "Two")
    first_encoding(portal, AUTHENTICATION)
    agent.windows.answers = [(None, NEW)]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("another one")
    readers.put(card)
    assert await ending == "finished"
    assert (twin.objects, twin.keys) == (before, {})


async def test_a_card_with_another_serial_number_than_the_first_one_is_another_card(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    full = next(profile for profile in PROFILES if SERIAL in profile.yubico)
    card, other = personalised(full), personalised(full)
    other.serial = b"\x09\x09\x09\x09"
    before = dict(other.objects)
    readers.put(card)
    torn: list[int] = []

    def tear(number: int, apdu: bytes) -> str | None:
        if torn or apdu[1] != 0x47:
            return None
        torn.append(number)
        return "before"

    readers.tear = tear
    readers.torn = lambda _reader: readers.put(other, "Two")
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("another one")
    readers.put(card)
    assert await ending == "finished"
    assert (other.objects, other.keys) == (before, {})


# --- waiting


@pytest.mark.parametrize("changed", [False, True])
async def test_a_card_that_never_comes_ends_the_order_and_is_called_half_done_when_it_is(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, changed: bool
) -> None:
    portal.resume_within = 1
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    if changed:
        readers.put(personalised())
        readers.tear = lambda _number, apdu: "after" if apdu[1] == 0x47 else None
    assert await order(agent, portal) == "timeout"
    error = window_of(agent).error
    assert error is not None
    assert ("half done" in error.next_step) == changed
    assert (await undone(portal)).changing == changed


async def test_once_the_card_is_back_the_window_says_so_and_before_it_what_closing_it_means(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    torn: list[int] = []

    def tear(number: int, apdu: bytes) -> str | None:
        if torn or apdu[1] != 0xDB:
            return None
        torn.append(number)
        return "before"

    readers.tear = tear
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("back in the reader")
    waiting = window.texts[-1]
    assert "half done" in waiting
    assert window.cancellable[-1]
    readers.put(card)
    assert await ending == "finished"
    after = window.texts[window.texts.index(waiting) + 1 :]
    assert "is in the reader “One”" in after[0]
    assert not any(window.cancellable[-len(after) :])


async def test_a_card_that_is_there_and_never_lets_itself_be_opened_is_not_tried_for_ever(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(personalised())
    opened: list[int] = []

    def mute(number: int, _apdu: bytes) -> str | None:
        opened.append(number)
        raise InlayError("pcsc_card_mute")

    readers.tear = mute
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "pcsc_card_mute"
    assert len(opened) < 20


async def test_a_card_that_goes_in_the_moment_the_certificates_come_is_waited_for() -> None:
    """What keeps a card alive fails while the answer is there already: the answer counts."""

    class Session:
        async def awaiting(self, answer: Any) -> Any:
            await answer
            raise InlayError("pcsc_card_removed")

        async def close(self) -> None:
            """Nothing is held."""

    card = ReturningCard(None, None, PhysicalCard("piv", GUID, "Card 7"), (0, 1))  # type: ignore[arg-type]
    card._session = Session()  # type: ignore[assignment]

    async def answer() -> str:
        return "certificates"

    assert await card.awaiting(answer()) == "certificates"


# --- secrets that may have been counted


@pytest.mark.parametrize("tries", [0, 3])
async def test_a_card_that_has_another_puk_than_the_portal_is_left_alone(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, tries: int
) -> None:
    card = personalised(FULL)
    card.puk, card.puk_left = b"87654321", tries
    readers.put(card)
    before = (dict(card.objects), dict(card.keys), card.pin)
    first_encoding(portal, AUTHENTICATION)
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == ("card_puk_other" if tries else "card_puk_blocked")
    assert (card.objects, card.keys, card.pin) == before
    assert card.puk_left == max(tries - 1, 0)
    error = window_of(agent).error
    assert error is not None
    assert "start again from the page" not in error.next_step.lower()


async def test_a_wrong_puk_whose_answer_never_came_is_not_sent_again(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    full = next(profile for profile in PROFILES if METADATA in profile.yubico)
    card = personalised(full)
    card.puk = b"87654321"
    readers.put(card)
    put_back(readers, card)
    readers.tear = lambda _number, apdu: "after" if apdu[1] == 0x2C else None
    first_encoding(portal, AUTHENTICATION)
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "card_puk_other"
    assert card.puk_left == full.puk_tries - 1
    assert window_of(agent).error is not None


async def test_where_the_card_does_not_tell_its_puk_is_sent_twice_at_the_most(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(FULL)
    card.puk = b"87654321"
    readers.put(card)
    put_back(readers, card)
    readers.tear = lambda _number, apdu: "after" if apdu[1] == 0x2C else None
    first_encoding(portal, AUTHENTICATION)
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "card_pin_unknown"
    assert card.puk_left == FULL.puk_tries - 2 >= 1


async def test_a_card_that_went_while_its_pin_was_typed_is_waited_for_and_no_try_is_said_to_be_spent(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    submitted = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    window.asking = lambda: readers.take() if len(window.asked) == 2 else None
    await window.until_said("back in the reader")
    readers.put(card)
    assert await submitted == "finished"
    assert len(window.asked) == 2


# --- what else comes between


@pytest.mark.parametrize("disturbance", ["reset", "service"])
async def test_reset_by_another_program_or_without_its_service_at_any_command_it_goes_on(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, disturbance: str
) -> None:
    readers.put(personalised())
    assert await complete(agent, portal, "again", CODE) == "finished"
    commands = len(readers.trace)
    readers.take()
    for number in in_turn(range(1, commands + 1), ["reset", "service"].index(disturbance), 2):
        card = personalised()
        readers.put(card)
        readers.trace.clear()
        readers.torn = lambda _reader: readers.start_service()

        def disturb(count: int, _apdu: bytes, at: int = number) -> str | None:
            return disturbance if count == at else None

        readers.tear = disturb
        code = f"{number:02d}cdefghijklmnopqrstuv"
        assert await complete(agent, portal, "again", code) == "finished", (
            number,
            portal.orders[code].undone,
        )
        assert card.pin_left == card.profile.pin_tries
        assert {0x5FC105, 0x5FC10A} <= set(card.objects)
        readers.tear = lambda _number, _apdu: None
        readers.take()

"""The orders *change PIN* and *unblock PIN* of a card in a reader: refused, wrong, torn, then as it should go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.ports import UserCancelled
from protocol.errors import InlayError
from protocol.messages import Binding, ChangePin, PinPolicy, UnblockPin
from tests.cards.independent.in_reader import kinds
from tests.cards.profiles import METADATA, PROFILES, Profile
from tests.cards.simulated import PIN, PUK, SimulatedCard
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts, running_agent
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import Answer, FakeWindow
from tests.support.physical_orders import GUID, personalised
from tests.support.samples import combined
from tests.support.simulated_readers import SimulatedReaders

NEW, WRONG = b"135790", b"000000"
STANDARD = PROFILES[0]
"""Tells the tries of its PIN when it is asked, those of its PUK in the answer to a wrong one alone."""
TELLING = next(each for each in PROFILES if METADATA in each.yubico)
"""Tells those of its PUK when it is asked, too."""
NO_TRIES = next(each for each in PROFILES if each.wrong_old)
"""Says no more of a wrong old value than that it is wrong, and never tells the tries of its PUK."""
CONSENT: Answer = (None, None)


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with running_agent(tmp_path / "home", readers) as running:
        running.trust_portal(portal)
        portal.binding = Binding.NONE
        yield running


def change(portal: FakePortal) -> None:
    portal.operation = ChangePin(
        card="card-1", driver="piv", guid=GUID, label="Card 7", pin_policy=PinPolicy()
    )


def unblock(portal: FakePortal, *, typed: bool = True) -> None:
    portal.puk = None if typed else PUK
    portal.operation = UnblockPin(
        card="card-1",
        driver="piv",
        guid=GUID,
        label="Card 7",
        pin_policy=PinPolicy(),
        puk="typed" if typed else "escrow",
    )


def begin(portal: FakePortal, way: str) -> Answer:
    """Order one of the two; what the person types for it."""
    if way == "change":
        change(portal)
        return (PIN, NEW)
    unblock(portal)
    return (PUK, NEW)


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


def padded(pin: bytes) -> bytes:
    return pin.ljust(8, b"\xff")


def sent(readers: SimulatedReaders, instruction: int) -> int:
    return sum(apdu[1] == instruction for apdu in readers.trace)


# --- wrong, blocked, cancelled


@pytest.mark.parametrize(
    ("way", "profile", "told"),
    [
        ("change", STANDARD, ("", "2 tries", "last try")),
        ("change", NO_TRIES, ("", "2 tries", "last try")),
        ("unblock", STANDARD, ("doesn't tell", "2 tries", "last try")),
        ("unblock", TELLING, ("3 tries", "2 tries", "last try")),
        ("unblock", NO_TRIES, ("doesn't tell",) * 3),
    ],
)
async def test_what_is_wrong_is_asked_again_and_costs_the_try_that_it_is(
    agent: AgentParts,
    portal: FakePortal,
    readers: SimulatedReaders,
    way: str,
    profile: Profile,
    told: tuple[str, str, str],
) -> None:
    card = personalised(profile)
    readers.put(card)
    right = begin(portal, way)
    wrong = (
        [(b"000000", NEW), (b"111111", NEW)] if way == "change" else [(b"00000000", NEW), (b"11111111", NEW)]
    )
    agent.windows.answers = [CONSENT, *wrong, right]
    assert await order(agent, portal) == "finished"
    _, *warnings = [prompt.warning or "" for prompt in window_of(agent).asked]
    assert [word in text for word, text in zip(told, warnings, strict=True)] == [True] * 3, warnings
    assert ["is wrong" in text for text in warnings] == [False, True, True]
    assert card.pin == padded(NEW)
    assert (card.pin_left, card.puk_left) == (card.profile.pin_tries, card.profile.puk_tries)


@pytest.mark.parametrize(
    ("way", "pin_left", "code"),
    [
        ("change", 0, "card_pin_blocked"),
        ("unblock", 0, "card_both_blocked"),
        ("unblock", 1, "card_puk_blocked"),
    ],
)
async def test_blocked_is_said_with_what_helps_and_nothing_is_sent(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str, pin_left: int, code: str
) -> None:
    card = personalised(next(each for each in PROFILES if METADATA in each.yubico))
    card.pin_left, card.puk_left = pin_left, 0
    readers.put(card)
    begin(portal, way)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == code
    assert sent(readers, 0x24) == sent(readers, 0x2C) == 0


async def test_a_puk_of_the_portals_that_is_wrong_is_tried_once(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    unblock(portal, typed=False)
    portal.puk = b"99999999"
    agent.windows.answers = [CONSENT, (None, NEW)]
    assert await order(agent, portal) == "card_puk_other"
    assert sent(readers, 0x2C) == 1
    assert card.pin == padded(PIN)


@pytest.mark.parametrize("way", ["change", "unblock"])
async def test_cancelled_the_card_keeps_its_pin(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str
) -> None:
    card = personalised()
    readers.put(card)
    begin(portal, way)
    agent.windows.answers = [CONSENT, UserCancelled("consent")]
    assert await order(agent, portal) == "user_cancelled"
    assert (card.pin, card.pin_left, card.puk_left) == (
        padded(PIN),
        card.profile.pin_tries,
        card.profile.puk_tries,
    )


async def test_another_card_is_waited_past(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    other, card = personalised(guid="ab" * 16), personalised()
    readers.put(other, "Two")
    right = begin(portal, "change")
    agent.windows.answers = [CONSENT, right]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("another one")
    readers.put(card)
    assert await ending == "finished"
    assert (other.pin, card.pin) == (padded(PIN), padded(NEW))


# --- torn out in the middle


def tear_at(readers: SimulatedReaders, card: SimulatedCard, number: int, side: str) -> None:
    readers.torn = lambda reader: readers.put(card, reader)
    readers.tear = lambda count, _apdu: side if count == number else None


@pytest.mark.parametrize(
    ("profile", "way", "side"),
    combined(kinds(7), ["change", "unblock"], ["before", "after"]),
    ids=lambda value: getattr(value, "name", value),
)
async def test_torn_out_at_any_command_the_person_finds_out_and_software_spends_nothing(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile, way: str, side: str
) -> None:
    """Only at the command itself the person is asked which PIN the card has; everything else is done again."""
    readers.put(personalised(profile))
    right = begin(portal, way)
    agent.windows.answers = [CONSENT, right]
    assert await order(agent, portal) == "finished"
    commands = len(readers.trace)
    told_at = next(place for place, apdu in enumerate(readers.trace, 1) if apdu[1] in (0x24, 0x2C))
    readers.take()
    for number in range(1, commands + 1):
        card = personalised(profile)
        readers.put(card)
        readers.trace.clear()
        tear_at(readers, card, number, side)
        # asked which PIN it is: the new one, which is wrong when the card never had the command
        at_command = number == told_at
        agent.windows.answers = [CONSENT, right, *([(NEW, None)] if at_command else []), right]
        begin(portal, way)
        code = f"{number:02d}cdefghijklmnopqrstuv"
        assert await order(agent, portal, code) == "finished", (number, portal.orders[code].undone)
        assert card.pin == padded(NEW)
        asked = window_of(agent).asked
        torn = [prompt for prompt in asked if "isn't known" in (prompt.warning or "")]
        assert bool(torn) == at_command, number
        assert (card.pin_left, card.puk_left) == (profile.pin_tries, profile.puk_tries)
        readers.tear = lambda _number, _apdu: None
        readers.take()


async def test_with_two_tries_left_nobody_is_asked_to_spend_one(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    card.pin_left = 2
    readers.put(card)
    readers.torn = lambda reader: readers.put(card, reader)
    readers.tear = lambda _number, apdu: "before" if apdu[1] == 0x24 else None
    right = begin(portal, "change")
    agent.windows.answers = [CONSENT, right]
    assert await order(agent, portal) == "card_pin_unknown"
    assert card.pin_left == 2
    assert len(window_of(agent).asked) == 2
    at = await portal.orders[CODE].until(lambda item: item.undone is not None)
    assert at.undone is not None
    assert at.undone.error == "card_pin_unknown"


@pytest.mark.parametrize("answer", [b"", b"\x6f\x00"], ids=["none", "6F00"])
@pytest.mark.parametrize("way", ["change", "unblock"])
async def test_torn_out_at_the_command_and_never_told_by_verify_either_the_pin_is_said_to_be_unknown(
    agent: AgentParts,
    portal: FakePortal,
    readers: SimulatedReaders,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    answer: bytes,
) -> None:
    card = personalised()
    readers.put(card)
    readers.torn = lambda reader: readers.put(card, reader)
    readers.tear = lambda _number, apdu: "after" if apdu[1] in (0x24, 0x2C) else None
    true = card.transmit

    def typed(raw: bytes) -> bool:
        return raw[1] == 0x20 and len(raw) > 5

    monkeypatch.setattr(card, "transmit", lambda raw: answer if typed(raw) else true(raw))
    agent.windows.answers = [CONSENT, begin(portal, way), (NEW, None)]
    assert await order(agent, portal) == "card_pin_unknown"
    at = await portal.orders[CODE].until(lambda item: item.undone is not None)
    assert at.undone is not None
    assert at.undone.error == "card_pin_unknown"
    assert sum(map(typed, readers.trace)) == 1


@pytest.mark.parametrize("end", ["closed", "waited", "undone"])
@pytest.mark.parametrize("way", ["change", "unblock"])
async def test_torn_out_at_the_command_and_never_put_back_the_pin_is_said_to_be_unknown(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str, end: str
) -> None:
    if end == "waited":
        portal.resume_within = 1
    readers.put(personalised())
    readers.tear = lambda _number, apdu: "after" if apdu[1] in (0x24, 0x2C) else None
    agent.windows.answers = [CONSENT, begin(portal, way)]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("back in the reader")
    if end == "closed":
        await window.close_by_person()
    elif end == "undone":
        await portal.undo(portal.orders[CODE])
    assert await ending == "card_pin_unknown"
    at = await portal.orders[CODE].until(lambda item: item.undone is not None)
    assert at.undone is not None
    assert at.undone.error == "card_pin_unknown"
    assert window.error is not None


async def test_a_blocked_pin_tells_by_itself_that_it_was_not_unblocked(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    card.pin_left = 0
    readers.put(card)
    readers.torn = lambda reader: readers.put(card, reader)
    torn: list[int] = []

    def tear(number: int, apdu: bytes) -> str | None:
        if apdu[1] == 0x2C and not torn:
            torn.append(number)
            return "before"
        return None

    readers.tear = tear
    right = begin(portal, "unblock")
    agent.windows.answers = [CONSENT, right, right]
    assert await order(agent, portal) == "finished"
    assert card.pin == padded(NEW)


# --- as it should go


@pytest.mark.parametrize("way", ["change", "unblock"])
@pytest.mark.parametrize("profile", kinds(8), ids=lambda profile: profile.name)
async def test_the_card_has_its_new_pin(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile, way: str
) -> None:
    card = personalised(profile)
    card.pin_left = 0 if way == "unblock" else card.pin_left
    readers.put(card)
    right = begin(portal, way)
    agent.windows.answers = [CONSENT, right]
    assert await order(agent, portal) == "finished", portal.orders[CODE].undone
    assert (card.pin, card.pin_left) == (padded(NEW), profile.pin_tries)
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert receipt.guid == GUID
    assert not card.pin_ok
    secrets = [secret for given in window_of(agent).given for secret in (given.pin, given.known) if secret]
    assert not any(any(secret) for secret in secrets)
    assert NEW not in agent.everything_written()
    assert window_of(agent).done is not None


async def test_the_portal_may_know_the_puk(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    card.pin_left = 0
    readers.put(card)
    unblock(portal, typed=False)
    agent.windows.answers = [CONSENT, (None, NEW)]
    assert await order(agent, portal, OTHER_CODE) == "finished"
    assert card.pin == padded(NEW)
    assert window_of(agent).asked[-1].known is None

"""The order *encode card* for a card in a reader, refused, disturbed, torn, then as it should go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.ports import UserCancelled
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
    ManagementProof,
    ManagementQuestion,
    OrderState,
    PinEntry,
    PinPolicy,
    Purpose,
)
from tests.cards.profiles import IMPORT, PROFILES, SET_KEY, Profile
from tests.cards.simulated import FACTORY_KEY, PIN, PUK, SimulatedCard
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts, running_agent
from tests.support.fake_order import AUTHENTICATION, SIGNATURE, OrderAtPortal
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import FakeWindow
from tests.support.simulated_readers import SimulatedReaders

GUID, FRESH = "d6" * 16, "0f" * 16
WRONG, NEW = b"000000", b"135790"
NEW_KEY = bytes(range(1, 25))
ENCRYPTION = KeyOrder("9D", Purpose.ENCRYPTION, Algorithm.P_256, KeySource.IMPORT, "CN=Alex Example")
FULL = PROFILES[0]


def kept(key: KeyOrder) -> KeyOrder:
    return KeyOrder(key.slot, key.purpose, key.algorithm, KeySource.KEEP, key.subject)


@pytest.fixture
def readers() -> SimulatedReaders:
    return SimulatedReaders()


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with running_agent(tmp_path / "home", readers) as running:
        running.trust_portal(portal)
        portal.binding = Binding.NONE
        portal.management_keys = [FACTORY_KEY]
        portal.puk = PUK
        yield running


def personalised(profile: Profile = FULL, guid: str = GUID) -> SimulatedCard:
    """A card that has a CHUID with this GUID."""
    card = SimulatedCard(profile)
    card.objects[0x5FC102] = bytes.fromhex(f"3019{'D4' * 25}3410{guid}350832303330313233313E00FE00")
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


def first_encoding(portal: FakePortal, *keys: KeyOrder, **changes: Any) -> None:
    """Have the portal's next order give a blank card everything: GUID, PIN, keys, certificates, management key."""
    portal.new_key = NEW_KEY
    encode(
        portal,
        *keys,
        **{
            "guid": FRESH,
            "identity": CardIdentity(previous=GUID, blank=True),
            "pin": PinEntry(kind="new", policy=PinPolicy()),
            "steps": [CardStep.SET_PIN],
            "management": ManagementKey(replace=ManagementAlgorithm.AES_192),
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


# --- refused before anything is asked


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"driver": "pkcs11"}, "encoding_unsupported"),
        ({"steps": [CardStep.INITIALISE]}, "encoding_unsupported"),
        ({"steps": [CardStep.BLOCK]}, "encoding_unsupported"),
        ({"pin": PinEntry(kind="verify", where="pad")}, "encoding_unsupported"),
        ({"pin": PinEntry(kind="none")}, "encoding_unsupported"),
        ({"pin": PinEntry(kind="new", policy=PinPolicy())}, "encoding_unsupported"),
        ({"steps": [CardStep.SET_PIN]}, "encoding_unsupported"),
        ({"management": None}, "order_malformed"),
        ({"keys": [AUTHENTICATION, AUTHENTICATION]}, "order_malformed"),
    ],
)
async def test_an_order_that_nobody_can_carry_out_asks_nobody(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, changes: dict[str, Any], code: str
) -> None:
    readers.put(personalised())
    encode(portal, AUTHENTICATION, **changes)
    assert await order(agent, portal) == code
    assert agent.windows.opened == []
    assert readers.trace == []


# --- the PIN


async def test_a_wrong_pin_is_asked_again_with_the_tries_that_are_left_and_costs_the_try_that_it_is(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (WRONG, None), (b"000001", None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    _, *questions = [prompt.warning or "" for prompt in window_of(agent).asked]
    assert [word in text for word, text in zip(("", "2 tries", "last try"), questions, strict=True)] == [
        True
    ] * 3
    assert card.pin_left == card.profile.pin_tries
    secrets = [given.known for given in window_of(agent).given]
    assert not any(any(secret) for secret in secrets if secret is not None)


async def test_a_pin_that_is_blocked_or_becomes_so_ends_it_before_anything_is_changed(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), *[(b"00000%d" % n, None) for n in range(card.profile.pin_tries)]]
    assert await order(agent, portal) == "card_pin_blocked"
    assert await order(agent, portal, OTHER_CODE) == "card_pin_blocked"
    assert len(window_of(agent).asked) == 1  # consent alone: there is no try to ask for
    for code in (CODE, OTHER_CODE):
        assert (await undone(portal, code)).changing == 0
    assert untouched(readers)


async def test_no_session_is_open_with_anything_proved_while_a_person_is_asked(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (WRONG, None)]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until("ask", 3)
    assert not card.pin_ok
    assert not card.managed
    await window.close_by_person()
    assert await ending == "user_cancelled"
    assert untouched(readers)


# --- the portal's key


async def test_a_card_with_another_management_key_is_left_as_it_is(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    portal.management_keys = [bytes(24), bytes(range(24))]
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "card_management_wrong"
    at = await undone(portal)
    assert [question.refused for question in at.questions] == [0, 1, 2]
    assert [question.number for question in at.questions] == [1, 2, 3]
    assert at.changing == 0
    assert untouched(readers)
    assert card.pin_left == card.profile.pin_tries


async def test_the_second_key_that_the_portal_has_may_be_the_one(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(personalised())
    portal.management_keys = [bytes(range(24)), FACTORY_KEY]
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    assert [question.refused for question in portal.orders[CODE].questions] == [0, 1]


async def test_an_answer_that_comes_too_late_is_thrown_away_and_the_card_asks_anew(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.card_session.ANSWER_SECONDS", 0.2)
    readers.put(personalised())
    held: list[ManagementProof] = []

    def late(question: ManagementQuestion, proof: ManagementProof) -> ManagementProof | None:
        """The first answer comes with the second one, before it."""
        if question.number == 1:
            held.append(proof)
            return None
        return proof

    async def both(at: OrderAtPortal) -> None:
        await at.until(lambda item: len(item.questions) == 2)
        await portal.say(at, held[0])

    portal.answers = late
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    ending = asyncio.create_task(order(agent, portal))
    saying = asyncio.create_task(both(await portal.claimed(CODE)))
    assert await ending == "finished"
    await saying
    challenges = [question.witness or question.challenge for question in portal.orders[CODE].questions]
    assert len(set(challenges)) == len(challenges) == 2


async def test_a_portal_that_never_answers_in_time_changes_nothing(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.card_session.ANSWER_SECONDS", 0.1)
    readers.put(personalised())
    portal.answers = lambda _question, _proof: None
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "card_management_slow"
    assert len((await undone(portal)).questions) == 3
    assert untouched(readers)


async def test_a_card_that_takes_no_key_from_elsewhere_is_left_as_it_is(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(personalised(next(each for each in PROFILES if IMPORT not in each.yubico and each.chuid)))
    encode(portal, AUTHENTICATION, ENCRYPTION)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "card_feature_missing"
    assert (await undone(portal)).changing == 0
    assert untouched(readers)


async def test_a_card_that_is_seen_and_cant_be_opened_ends_it_by_its_cause(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(personalised())
    readers.refusal = "pcsc_failed"
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None)]
    assert await order(agent, portal) == "pcsc_failed"
    assert readers.refused < 100


# --- the wrong card, no card


async def test_another_card_is_refused_and_the_right_one_waited_for(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    other, card = personalised(guid="ab" * 16), personalised()
    before = dict(other.objects)
    readers.put(other, "Two")
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("another one")
    assert readers.trace == []
    readers.put(card)
    assert await ending == "finished"
    assert other.objects == before
    assert other.keys == {}


async def test_no_reader_no_service_no_card_are_said_until_there_is_one(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.problem = "pcsc_no_service"
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("pcscd")
    readers.problem, readers.readers = None, []
    readers.show()
    await window.until_said("There is no card reader")
    readers.readers = ["One", "Two"]
    readers.show()
    await window.until_said("Put the card “Card 7” in the reader")
    readers.put(personalised())
    assert await ending == "finished"


async def test_with_two_blank_cards_the_person_picks(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    blank = next(profile for profile in PROFILES if not profile.chuid)
    first, second = SimulatedCard(blank), SimulatedCard(blank)
    readers.put(first, "One")
    readers.put(second, "Two")
    first_encoding(portal, AUTHENTICATION)
    agent.windows.answers, agent.windows.choice = [(None, NEW)], 1
    assert await order(agent, portal) == "finished"
    assert [choice.card for choice in window_of(agent).choices[0]] == ["One", "Two"]
    assert first.objects == {} or 0x5FC105 not in first.objects
    assert 0x5FC105 in second.objects


@pytest.mark.parametrize("moment", ["consent", "card"])
async def test_closed_before_the_card_is_changed_nothing_is(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, moment: str
) -> None:
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [UserCancelled("consent")] if moment == "consent" else [(None, None)]
    ending = asyncio.create_task(order(agent, portal))
    if moment == "card":
        window = await agent.windows.first()
        await window.until_said("Put the card")
        await window.close_by_person()
    assert await ending == "user_cancelled"
    assert (await undone(portal)).changing == 0
    assert readers.trace == []


# --- the point of no return


@pytest.mark.parametrize("way", ["generate", "keep", "first"])
async def test_the_portal_has_it_in_writing_before_the_card_is_changed(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str
) -> None:
    card = personalised()
    readers.put(card)
    seen: list[tuple[int, bool]] = []

    def note(_number: int, apdu: bytes) -> None:
        at = portal.orders[OTHER_CODE if way == "keep" else CODE]
        if apdu[1] in CHANGING:
            seen.append((at.changing, at.requests is not None))

    if way == "keep":
        encode(portal, AUTHENTICATION)
        agent.windows.answers = [(None, None), (PIN, None)]
        assert await order(agent, portal) == "finished"
        encode(portal, kept(AUTHENTICATION))
    elif way == "first":
        first_encoding(portal, AUTHENTICATION)
    else:
        encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, NEW)] if way == "first" else [(None, None), (PIN, None)]
    readers.tear = note
    assert await order(agent, portal, OTHER_CODE if way == "keep" else CODE) == "finished"
    assert seen
    assert {changing for changing, _ in seen} == {1}
    assert seen[0][1] == (way == "keep")  # kept keys: not before the certificates are there


async def test_undone_by_the_portal_after_it_the_person_is_told_that_the_card_is_half_done(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(personalised())
    portal.faults.silent = {"requests"}
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    ending = asyncio.create_task(order(agent, portal))
    at = await (await portal.claimed(CODE)).until(lambda item: item.requests is not None)
    await portal.undo(at)
    assert await ending == "cancelled_at_portal"
    error = window_of(agent).error
    assert error is not None
    assert "half done" in error.next_step
    assert (await undone(portal)).changing == 1


async def test_an_agent_that_is_ended_after_it_undoes_the_order_and_tells_the_portal(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, tmp_path: Path
) -> None:
    readers.put(personalised())
    portal.faults.silent = {"requests"}
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    agent.submit(portal)
    await (await portal.claimed(CODE)).until(lambda item: item.requests is not None)
    await agent.desk.close()
    await portal.cut()
    async with running_agent(tmp_path / "home", readers) as restarted:
        await restarted.desk.resume()
        at = await undone(portal)
        assert at.undone is not None
        assert (at.undone.error, at.changing) == ("order_interrupted", 1)


# --- torn out at every command


def put_back(readers: SimulatedReaders, card: SimulatedCard) -> None:
    readers.torn = lambda reader: readers.put(card, reader)


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
    for number in range(1, commands + 1):
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


# --- the way it should go, on every kind of card


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
async def test_a_first_encoding_and_two_further_ones(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    card = SimulatedCard(profile)
    if profile.chuid:
        card = personalised(profile)
    readers.put(card)
    keys = [AUTHENTICATION, SIGNATURE]
    if IMPORT in profile.yubico:
        keys.append(ENCRYPTION)
    first_encoding(portal, *keys)
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "finished", portal.orders[CODE].undone
    at = portal.orders[CODE]
    assert at.receipt is not None
    assert at.requests is not None
    assert at.requests.guid == at.receipt.guid == FRESH
    assert bytes.fromhex(FRESH) in card.objects[0x5FC102]
    assert card.pin == NEW.ljust(8, b"\xff")
    replaced = at.receipt.management_replaced
    assert not replaced or SET_KEY in profile.yubico
    if replaced:
        portal.management_keys = [FACTORY_KEY, NEW_KEY]
    details = window_of(agent).details
    assert details is not None
    assert [line.purpose for line in details.certificates] == [key.purpose.value for key in keys]

    made = card.keys[0x9A]
    encode(portal, kept(AUTHENTICATION), guid=FRESH)
    agent.windows.answers = [(None, None), (NEW, None)]
    assert await order(agent, portal, OTHER_CODE) == "finished", portal.orders[OTHER_CODE].undone
    assert card.keys[0x9A] is made or card.keys[0x9A] == made
    encode(portal, AUTHENTICATION, guid=FRESH)
    agent.windows.answers = [(None, None), (NEW, None)]
    last = "0123456789abcdefghijkl"
    assert await order(agent, portal, last) == "finished", portal.orders[last].undone
    assert card.keys[0x9A] != made
    assert card.pin_left == profile.pin_tries
    assert card.puk_left == profile.puk_tries
    assert portal.orders[last].state is OrderState.FINISHED
    assert NEW not in agent.everything_written()

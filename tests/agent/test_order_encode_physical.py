"""The order *encode card* for a card in a reader, refused, disturbed, torn, then as it should go."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.ports import CardChoice, UserCancelled
from protocol.messages import (
    Algorithm,
    CardIdentity,
    CardStep,
    ManagementAlgorithm,
    ManagementKey,
    ManagementProof,
    ManagementQuestion,
    OrderState,
    PinEntry,
    PinPolicy,
    Progress,
    Step,
)
from tests.cards.profiles import IMPORT, PROFILES, RSA_2048, SET_KEY, TDES, Profile
from tests.cards.simulated import FACTORY_KEY, PIN, SimulatedCard
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts, running_agent
from tests.support.fake_order import AUTHENTICATION, SIGNATURE, OrderAtPortal
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import FakeWindow
from tests.support.physical_orders import (
    CHANGING,
    ENCRYPTION,
    ENCRYPTION_RSA,
    FRESH,
    FULL,
    GUID,
    LEFT_TO_CARD,
    NEW,
    NEW_KEY,
    WRONG,
    encode,
    encoding_agent,
    first_encoding,
    instructions,
    kept,
    order,
    personalised,
    undone,
    untouched,
    window_of,
)
from tests.support.simulated_readers import SimulatedReaders


@pytest.fixture
def readers() -> SimulatedReaders:
    return SimulatedReaders()


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with encoding_agent(tmp_path / "home", readers, portal) as running:
        yield running


# --- refused before anything is asked


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"driver": "pkcs11"}, "order_malformed"),  # it has no management key
        ({"steps": [CardStep.INITIALISE]}, "encoding_unsupported"),
        ({"steps": [CardStep.BLOCK]}, "encoding_unsupported"),
        (
            {"steps": [CardStep.SET_PIN], "pin": PinEntry(kind="new", where="pad", policy=PinPolicy())},
            "encoding_unsupported",
        ),
        ({"pin": PinEntry(kind="none")}, "encoding_unsupported"),
        ({"pin": PinEntry(kind="new", policy=PinPolicy())}, "encoding_unsupported"),
        ({"steps": [CardStep.SET_PIN]}, "encoding_unsupported"),
        ({"management": None}, "order_malformed"),
        ({"keys": [AUTHENTICATION, AUTHENTICATION]}, "order_malformed"),
        ({"driver": "virtual", "management": None, "keys": [LEFT_TO_CARD]}, "order_malformed"),
        ({"driver": "pkcs11", "management": None, "keys": [LEFT_TO_CARD]}, "order_malformed"),
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


async def test_an_algorithm_that_the_card_does_not_name_is_said_before_anything_is_changed(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(personalised(dataclasses.replace(FULL, template="ac", algorithms=(RSA_2048,))))
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "card_algorithm_missing"
    assert (await undone(portal)).changing == 0
    assert untouched(readers)


# --- the portal's key


@pytest.mark.parametrize("right", [False, True])
async def test_a_card_that_can_not_read_a_mutual_template_is_asked_by_a_challenge(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, right: bool
) -> None:
    card = personalised(dataclasses.replace(FULL, strict=3, wrong_management=0x6A80))
    readers.put(card)
    portal.management_keys = [bytes(24), FACTORY_KEY if right else bytes(range(24))]
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == ("finished" if right else "card_management_wrong")


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
    assert await order(agent, portal) == "card_import_missing"
    assert (await undone(portal)).changing == 0
    assert untouched(readers)


async def test_an_rsa_key_of_the_archive_is_brought_and_decrypts_on_the_card(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(next(each for each in PROFILES if IMPORT in each.yubico and each.chuid))
    readers.put(card)
    encode(portal, ENCRYPTION_RSA)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    assert card.imported == {0x9D}
    assert card.keys[0x9D][0] == RSA_2048


async def test_window_and_page_are_told_which_of_several_keys_the_card_makes(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(personalised())
    encode(portal, AUTHENTICATION, SIGNATURE, LEFT_TO_CARD)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    counted = [f"Preparing the card's keys: key {number} of 3" for number in (1, 2, 3)]
    assert [text for text in window_of(agent).texts if "keys: key" in text] == counted
    told = [message for message in portal.orders[CODE].taken if isinstance(message, Progress)]
    assert [(item.key.number, item.key.of) for item in told if item.key] == [(1, 3), (2, 3), (3, 3)]
    assert {item.step for item in told if item.key} == {Step.KEYS}


async def test_a_card_that_forgets_the_management_key_with_each_pin_is_encoded_all_the_same(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    """Through PIN, keys, requests, certificates and proofs; the portal is asked again for each that needs it."""
    card = personalised(dataclasses.replace(PROFILES[1], forgets_key=True))
    readers.put(card)
    first_encoding(portal, AUTHENTICATION, SIGNATURE, ENCRYPTION)
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "finished"
    assert sorted(card.keys) == [0x9A, 0x9C, 0x9D]
    assert len(portal.orders[CODE].questions) > 2
    assert card.pin_left == card.profile.pin_tries


async def test_a_single_key_is_not_counted(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(personalised())
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    texts = window_of(agent).texts
    assert any(text.startswith("Preparing the card's keys") for text in texts)
    assert not any("keys: key" in text for text in texts)


@pytest.mark.parametrize("imports", [False, True])
async def test_a_key_that_is_left_to_the_card_is_made_there_only_where_it_takes_none(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, imports: bool
) -> None:
    card = personalised(next(each for each in PROFILES if (IMPORT in each.yubico) is imports and each.chuid))
    readers.put(card)
    encode(portal, AUTHENTICATION, LEFT_TO_CARD)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    at = portal.orders[CODE]
    assert at.requests is not None
    assert [item.slot for item in at.requests.requests] == (["9A"] if imports else ["9A", "9D"])
    assert card.imported == ({0x9D} if imports else set())
    window = window_of(agent)
    assert window.details is not None
    assert window.prompt is not None
    assert len(window.details.notes) == (0 if imports else 1)
    assert all("lost with the card" in note for note in window.details.notes)
    assert any("takes no such key" in line for line in window.prompt.consequences)


@pytest.mark.parametrize("takes", [True, False])
@pytest.mark.parametrize("algorithm", [Algorithm.P_256, Algorithm.RSA_2048])
async def test_a_card_that_tells_nothing_of_its_keys_shows_whether_it_takes_one(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, algorithm: Algorithm, takes: bool
) -> None:
    """Before a certificate is asked for; some know the command and refuse every key."""
    silent = next(each for each in PROFILES if IMPORT not in each.yubico and each.chuid)
    profile = dataclasses.replace(silent, yubico=frozenset({IMPORT}), takes_keys=takes)
    readers.put(card := personalised(profile))
    encode(portal, AUTHENTICATION, msgspec.structs.replace(LEFT_TO_CARD, algorithm=algorithm))
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    at = portal.orders[CODE]
    assert at.requests is not None
    assert [item.slot for item in at.requests.requests] == (["9A"] if takes else ["9A", "9D"])
    assert card.imported == ({0x9D} if takes else set())
    assert instructions(readers).count(0xFE) == (2 if takes else 1)
    details = window_of(agent).details
    assert details is not None
    assert len(details.notes) == (0 if takes else 1)


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
    assert [choice.label for choice in window_of(agent).choices[0]] == ["One", "Two"]
    assert first.objects == {} or 0x5FC105 not in first.objects
    assert 0x5FC105 in second.objects


async def test_a_pick_holds_for_that_card_alone(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    blank = next(profile for profile in PROFILES if not profile.chuid)
    second, other = SimulatedCard(blank), SimulatedCard(blank)
    window, picks, ending = await picking(agent, portal)
    readers.put(SimulatedCard(blank), "One")
    readers.put(second, "Two")
    gone = (await listed(window, [True, True]))[0].card
    readers.take("One")
    readers.put(other, "One")
    picks.put_nowait(gone)  # it was on its way when the card went
    async with asyncio.timeout(20), window.changed:
        await window.changed.wait_for(lambda: window.choices[-1][0].card != gone)
    readers.take("One")
    left = await listed(window, [False, True])
    assert (left[0].detail, ending.done(), untouched(readers)) == ("No card is in it.", False, True)
    picks.put_nowait(left[1].card)
    assert await ending == "finished"
    assert other.objects == {}
    assert 0x5FC105 in second.objects


async def test_a_picked_card_that_goes_before_it_has_its_identity_is_picked_again(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    blank = next(profile for profile in PROFILES if not profile.chuid)
    other = SimulatedCard(blank)
    window, picks, ending = await picking(agent, portal)
    readers.tear = lambda number, _apdu: "before" if number == 1 else None
    readers.torn = lambda reader: readers.put(other, reader)
    readers.put(SimulatedCard(blank), "One")
    readers.put(SimulatedCard(blank), "Two")
    await listed(window, [True, True])
    readers.take("Two")
    picked = (await listed(window, [True, False]))[0].card
    picks.put_nowait(picked)
    async with asyncio.timeout(20), window.changed:
        await window.changed.wait_for(lambda: window.choices[-1][0].card != picked)
    assert untouched(readers)
    await window.close_by_person()
    assert await ending == "user_cancelled"
    assert other.objects == {}


async def test_a_card_that_the_order_names_is_taken_though_another_would_do(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    blank = SimulatedCard(next(profile for profile in PROFILES if not profile.chuid))
    readers.put(blank, "One")
    readers.put(personalised(), "Two")
    first_encoding(portal, AUTHENTICATION, identity=CardIdentity(previous=GUID, blank=True))
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "finished"
    assert (window_of(agent).choices, window_of(agent).confirmed) == ([], [])
    assert "The card “Card 7” is in the reader “Two”. Leave it there." in window_of(agent).texts
    assert blank.objects == {}


async def picking(
    agent: AgentParts, portal: FakePortal
) -> tuple[FakeWindow, asyncio.Queue[str], asyncio.Task[str]]:
    """An order that waits for a blank card, of which the person says which it is."""
    first_encoding(portal, AUTHENTICATION)
    agent.windows.answers = [(None, NEW)]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    picks = window.picks = asyncio.Queue()
    await window.until_said("Put the card")
    return window, picks, ending


async def listed(window: FakeWindow, usable: list[bool]) -> tuple[CardChoice, ...]:
    """The list, once it shows these readers as ones to pick from, or not."""
    async with asyncio.timeout(20), window.changed:
        await window.changed.wait_for(
            lambda: bool(window.choices) and [row.usable for row in window.choices[-1]] == usable
        )
    return window.choices[-1]


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
        assert (at.undone.error, at.changing) == ("card_half_done", 1)


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


async def test_a_card_that_knows_3des_alone_gets_a_3des_key_of_its_own(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(dataclasses.replace(PROFILES[0], yubico=frozenset({SET_KEY})))
    readers.put(card)
    wanted = [ManagementAlgorithm.AES_192, ManagementAlgorithm.TRIPLE_DES]
    first_encoding(portal, AUTHENTICATION, management=ManagementKey(replace=wanted))
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "finished"
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert receipt.management_replaced is ManagementAlgorithm.TRIPLE_DES
    assert card.keys_by_algorithm == {TDES: NEW_KEY}


async def test_as_many_keys_as_were_announced_or_none_is_set(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(dataclasses.replace(PROFILES[0], yubico=frozenset({SET_KEY})))
    readers.put(card)
    first_encoding(portal, AUTHENTICATION)
    portal.new_key = None
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "params_invalid"
    assert card.keys_by_algorithm == {TDES: FACTORY_KEY}

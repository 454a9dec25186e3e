"""A portal whose answer to the card's question comes too late: at each question of each order that proves the key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from agent import card_session
from agent.card_session import ANSWER_TRIES
from protocol import half_done
from protocol.errors import InlayError
from protocol.messages import (
    Binding,
    CardSecrets,
    ChangePuk,
    ManagementAlgorithm,
    ManagementKey,
    ManagementProof,
    ManagementQuestion,
    PinPolicy,
    UnblockPin,
)
from tests.cards.profiles import METADATA, PROFILES, RESET
from tests.cards.simulated import FACTORY_KEY, PUK, SimulatedCard
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts, running_agent
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.late_answers import Patience, patience
from tests.support.physical_orders import (
    FRESH,
    GUID,
    NEW,
    encode,
    first_encoding,
    instructions,
    order,
    personalised,
    undone,
    untouched,
    window_of,
)
from tests.support.simulated_readers import SimulatedReaders

__all__ = ["patience"]

FULL = next(each for each in PROFILES if METADATA in each.yubico and each.mutual and RESET in each.yubico)
OWN_KEY, OWN_PUK = bytes(range(101, 125)), b"97531864"
PROVES = ManagementKey(algorithm=ManagementAlgorithm.AES_192, proves=True)
KNOWN, CHOSEN = (b"123456", None), (None, NEW)
CONSENT: Final = (None, None)
QUESTIONS: Final = {"first encoding": 1, "encode": 1, "reset": 4, "unblock": 3, "change puk": 1}
"""Order to how many questions its card asks, undisturbed: one that waited for its person asks anew, and one that was
reset in vain by the key that it had."""
EACH: Final = [(way, number) for way, asked in QUESTIONS.items() for number in range(1, asked + 1)]


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with running_agent(tmp_path / "home", readers) as running:
        running.trust_portal(portal)
        portal.binding = Binding.NONE
        portal.management_keys, portal.puk, portal.new_puk = [OWN_KEY, FACTORY_KEY], PUK, OWN_PUK
        yield running


def ordered(portal: FakePortal, agent: AgentParts, way: str, *, proves: bool = True) -> SimulatedCard:
    """Have an order, and its card."""
    card = personalised(FULL)
    card.keys_by_algorithm = dict.fromkeys(card.keys_by_algorithm, OWN_KEY)
    which: dict[str, Any] = {"card": "card-1", "driver": "piv", "guid": GUID, "label": "Card 7"}
    if way in ("first encoding", "reset"):
        management = ManagementKey(replace=[ManagementAlgorithm.AES_192], proves=proves and way == "reset")
        first_encoding(portal, AUTHENTICATION, new_puk=True, reset=way == "reset", management=management)
        agent.windows.answers = [CHOSEN, CONSENT, CONSENT]
    elif way == "encode":
        encode(portal, AUTHENTICATION, management=PROVES)
        agent.windows.answers = [CONSENT, KNOWN]
    elif way == "unblock":
        portal.operation = UnblockPin(**which, management=PROVES, pin_policy=PinPolicy(), puk="escrow")
        agent.windows.answers = [CONSENT, CHOSEN]
    else:
        portal.operation = ChangePuk(**which, management=PROVES, puk="escrow")
        agent.windows.answers = [CONSENT, CONSENT]
    if way in ("reset", "unblock"):
        card.pin_left = 0
        card.puk_left = 0 if way == "reset" else card.puk_left
    return card


def whole(card: SimulatedCard, way: str) -> None:
    """The card is as its order has it, and no try is lost."""
    assert (card.pin_left, card.puk_left) == (card.profile.pin_tries, card.profile.puk_tries)
    if way in ("first encoding", "reset"):
        assert (card.objects[0x5FC102][29:45].hex(), card.pin) == (FRESH, NEW.ljust(8, b"\xff"))
    assert (card.puk == OWN_PUK) == (way in ("first encoding", "reset", "change puk"))
    assert (0x9A in card.keys) == (way in ("first encoding", "reset", "encode"))


@pytest.mark.parametrize("times", range(1, ANSWER_TRIES))
@pytest.mark.parametrize(("way", "number"), EACH)
async def test_an_order_whose_answer_is_late_goes_on_when_it_has_come(
    agent: AgentParts,
    portal: FakePortal,
    readers: SimulatedReaders,
    patience: Patience,
    way: str,
    number: int,
    times: int,
) -> None:
    readers.put(card := ordered(portal, agent, way))
    patience.late = frozenset(range(number, number + times))
    assert await order(agent, portal) == "finished"
    assert patience.asked == QUESTIONS[way] + times
    assert any("hasn't answered yet" in text for text in window_of(agent).texts)
    asked = [question.witness for question in portal.orders[CODE].questions]
    assert len(set(asked)) == len(asked)  # a question whose answer was late is no more
    whole(card, way)


@pytest.mark.parametrize(("way", "number"), EACH)
async def test_a_portal_that_is_always_late_is_told_so_and_leaves_nobody_without_advice(
    agent: AgentParts,
    portal: FakePortal,
    readers: SimulatedReaders,
    patience: Patience,
    way: str,
    number: int,
) -> None:
    """What is half done by then is finished by a fresh order, and the window says so."""
    readers.put(card := ordered(portal, agent, way))
    before = (dict(card.objects), dict(card.keys), card.pin, card.puk)
    patience.late = frozenset(range(number, number + ANSWER_TRIES))
    assert await order(agent, portal) == "card_management_slow"
    changed = (await undone(portal)).changing > 0
    assert changed == (way == "reset" and number > 1)
    error = window_of(agent).error
    assert error is not None
    assert "Check the network" in error.next_step
    assert (InlayError(half_done.CODE).next_step in error.next_step) == changed
    assert ("Nothing was changed" in error.next_step) != changed
    if not changed:
        assert untouched(readers)
        assert (card.objects, card.keys, card.pin, card.puk) == before
        return
    ordered(portal, agent, way, proves=False)  # it may have been reset: it can't be asked for that
    assert await order(agent, portal, OTHER_CODE) == "finished"
    whole(card, way)


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_late_portal_need_not_be_waited_for(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, patience: Patience, number: int
) -> None:
    """Who closes the window has been told before what becomes of the card."""
    readers.put(ordered(portal, agent, "reset"))
    patience.late = frozenset({number})
    portal.answers = lambda question, proof: None if question.number == number else proof
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("hasn't answered yet")
    assert window.cancellable[-1]
    assert ("leaves the card half done" in window.texts[-1]) == (number > 1)
    await window.close_by_person()
    assert await ending == "user_cancelled"
    assert (await undone(portal)).changing == (number > 1)
    assert instructions(readers).count(0xFB) == (number > 2)


async def test_a_portal_that_falls_silent_is_given_up_when_the_order_is(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, patience: Patience
) -> None:
    readers.put(ordered(portal, agent, "encode"))
    portal.answers = lambda _question, _proof: None
    portal.resume_within = 1
    patience.late = frozenset({1})
    assert await order(agent, portal) == "timeout"
    assert len((await undone(portal)).questions) == 1
    assert untouched(readers)


async def test_a_card_that_goes_while_its_secrets_are_waited_for_gets_them_when_it_is_back(
    agent: AgentParts,
    portal: FakePortal,
    readers: SimulatedReaders,
    patience: Patience,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They come before the answer to its next question, which is asked of it when it is back."""
    monkeypatch.setattr(card_session, "KEEP_ALIVE_SECONDS", 0.02)
    readers.put(card := ordered(portal, agent, "change puk"))
    portal.faults.silent = {"card_proved"}
    waited: list[CardSecrets] = []
    make = portal._proved

    def kept(*told: Any) -> None:
        waited.extend(secret for secret in (make(*told),) if secret is not None)

    monkeypatch.setattr(portal, "_proved", kept)
    held: list[ManagementProof] = []

    def answers(question: ManagementQuestion, proof: ManagementProof) -> ManagementProof | None:
        if question.number == 1:
            return proof
        held.append(proof)
        return None

    portal.answers = answers
    ending = asyncio.create_task(order(agent, portal))
    at = await portal.claimed(CODE)
    await at.until(lambda item: len(item.proved) == 1)
    readers.take()
    await (await agent.windows.first()).until_said("Put the card “Card 7” in the reader")
    readers.put(card)
    await at.until(lambda item: len(item.questions) == 2)
    for body in (*waited, *held):
        await portal.say(at, body)
    assert await ending == "finished"
    whole(card, "change puk")

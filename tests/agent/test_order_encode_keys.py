"""The order *encode card* for a card in a reader: its PIN, the portal's management key, and the keys that are made."""

from __future__ import annotations

import asyncio
import dataclasses

import msgspec
import pytest

from protocol.messages import (
    Algorithm,
    Progress,
    Step,
)
from tests.cards.profiles import IMPORT, PROFILES, RSA_2048
from tests.cards.simulated import FACTORY_KEY, PIN
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    ENCRYPTION,
    ENCRYPTION_RSA,
    FULL,
    LEFT_TO_CARD,
    NEW,
    WRONG,
    agent,
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

__all__ = ["agent"]


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

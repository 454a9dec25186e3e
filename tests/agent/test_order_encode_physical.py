"""The order *encode card* for a card in a reader: refused, at its point of no return, then as it should go."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from protocol.messages import (
    CardStep,
    ManagementAlgorithm,
    ManagementKey,
    OrderState,
    PinEntry,
    PinPolicy,
)
from tests.cards.independent.in_reader import card_of, kinds
from tests.cards.profiles import IMPORT, PROFILES, SET_KEY, TDES, Profile
from tests.cards.simulated import FACTORY_KEY, PIN
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts, running_agent
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    CHANGING,
    ENCRYPTION,
    FRESH,
    LEFT_TO_CARD,
    NEW,
    NEW_KEY,
    agent,
    encode,
    first_encoding,
    kept,
    order,
    personalised,
    undone,
    window_of,
)
from tests.support.simulated_readers import SimulatedReaders

__all__ = ["agent"]


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


@pytest.mark.parametrize("profile", kinds(6), ids=lambda profile: profile.name)
async def test_a_first_encoding_and_two_further_ones(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    card = card_of(profile)
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

"""Orders that write data objects: those that no order may write, cards that can't have them, then as it should go."""

from __future__ import annotations

import dataclasses
from typing import Literal

import msgspec
import pytest

from protocol import data_objects
from protocol.messages import DataObject
from tests.cards.independent.in_reader import INDEPENDENT
from tests.cards.profiles import PROFILES, Profile
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    FRESH,
    FULL,
    NEW,
    agent,
    encode,
    first_encoding,
    kept,
    order,
    personalised,
    put_back,
    undone,
    window_of,
)
from tests.support.simulated_readers import SimulatedReaders

__all__ = ["agent"]

PIN = b"123456"
PRINTED = DataObject("5FC109", bytes.fromhex("0105416C657820FE00"))
OWN = DataObject("5F0001", b"a maker's own")
KEPT = [
    *("5FC101", "5FC102", "5FC103", "5FC105", "5FC107", "5FC10A", "5FC10B", "5FC10C"),
    *("5FC10D", "5FC120", "5FC121", "5FC122", "5FC123", "5FC104", "5FC100", "5FC1FF"),
    *("5FFF00", "5FFF01", "5FFF10", "5FFF11", "5FFFFF"),
]


@pytest.mark.parametrize("tag", KEPT)
@pytest.mark.parametrize("content", [b"anything", None])
async def test_an_object_that_somebody_else_keeps_makes_an_order_none(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, tag: str, content: bytes | None
) -> None:
    readers.put(personalised())
    encode(portal, AUTHENTICATION, objects=[OWN, DataObject(tag, content)])
    assert await order(agent, portal) == "order_malformed"
    assert agent.windows.opened == []


@pytest.mark.parametrize(
    "objects",
    [
        [OWN, OWN],
        [OWN, DataObject(OWN.tag)],
        [DataObject(f"5F00{number:02X}", b"x") for number in range(data_objects.MOST + 1)],
        [DataObject("5F0001", bytes(6_001)), DataObject("5F0002", bytes(6_000))],
    ],
)
async def test_too_many_too_much_and_twice(
    agent: AgentParts, portal: FakePortal, objects: list[DataObject]
) -> None:
    encode(portal, AUTHENTICATION, objects=objects)
    assert await order(agent, portal) == "order_malformed"
    assert agent.windows.opened == []


@pytest.mark.parametrize("driver", ["pkcs11", "virtual"])
async def test_cards_that_are_not_piv_cards_in_a_reader_have_none(
    agent: AgentParts, portal: FakePortal, driver: str
) -> None:
    encode(portal, AUTHENTICATION, objects=[OWN], driver=driver, management=None)
    assert await order(agent, portal) == "encoding_unsupported"
    assert agent.windows.opened == []


@pytest.mark.parametrize(
    "profile",
    [
        next(each for each in PROFILES if each.places is not None),
        *(each for each in INDEPENDENT if each.name.startswith(("pure 73-4", "OpenFIPS201", "CanoKey"))),
    ],
    ids=lambda profile: profile.name,
)
async def test_a_card_without_a_place_for_it_is_named_before_a_key_is_lost(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    card = personalised(profile)
    readers.put(card)
    encode(portal, AUTHENTICATION, objects=[OWN])
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "card_object_place"
    assert card.keys == {}
    error = window_of(agent).error
    assert error is not None
    assert error.fields == {"object": "5F0001"}
    assert "half done" in error.next_step  # the portal was told that it is being changed


async def test_a_card_that_is_full_keeps_its_keys(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(dataclasses.replace(FULL, capacity=120))
    readers.put(card)
    encode(portal, AUTHENTICATION, objects=[DataObject("5FC108", bytes(500))])
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "card_full"
    assert card.keys == {}
    assert 0x5FC108 not in card.objects


async def test_what_is_read_back_differs(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(
        dataclasses.replace(FULL, fills=True)
    )  # bytes behind what begins as a certificate does
    readers.put(card)
    encode(portal, AUTHENTICATION, objects=[DataObject("5F0001", b"\x70\x01x")])
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "card_object_differs"


async def test_an_order_that_keeps_all_keys_is_not_as_it_was_once_an_object_is_written(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    used = sum(map(len, card.objects.values()))
    card.profile = dataclasses.replace(card.profile, capacity=used + len(OWN.content or b""))
    name = "".join(chr(97 + number * 7 % 26) for number in range(60))
    longer = msgspec.structs.replace(kept(AUTHENTICATION), subject=f"CN={name}")
    encode(portal, longer, objects=[OWN])
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal, OTHER_CODE) == "card_object_too_large"
    assert not (await undone(portal, OTHER_CODE)).unchanged


# --- as it should go


@pytest.mark.parametrize(
    "profile", [FULL, next(each for each in PROFILES if not each.grows)], ids=lambda profile: profile.name
)
async def test_objects_are_written_with_a_new_pin_too_and_those_of_before_go(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    card = personalised(profile)
    card.objects |= {0x5F0002: b"of whoever had it", 0x5FC109: b"\x01\x01B", 0x5FC106: b"stays"}
    readers.put(card)
    objects = [PRINTED, OWN, DataObject("5F0002"), DataObject("5F0003")]
    first_encoding(portal, AUTHENTICATION, objects=objects)
    if not profile.chuid:
        card.objects.pop(0x5FC102)
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal, CODE) == "finished"
    assert card.objects[0x5FC109] == PRINTED.content
    assert card.objects[0x5F0001] == OWN.content
    assert card.objects[0x5FC106] == b"stays"
    assert not card.objects.keys() & {0x5F0002, 0x5F0003}
    said = " ".join(window_of(agent).asked[0].consequences)
    assert "Data of the portal's is written on the card: printed information (5FC109), 5F0001." in said
    assert "Data of whoever had the card before is removed: 5F0002, 5F0003." in said
    assert FRESH in card.objects[0x5FC102].hex()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_card_that_is_torn_out_while_they_are_written_is_gone_on_with(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, when: Literal["before", "after"]
) -> None:
    card, written = personalised(), iter(range(1, 100))
    readers.put(card)
    readers.tear = lambda number, apdu: when if apdu[1] == 0xDB and next(written) == 2 else None
    put_back(readers, card)
    encode(portal, AUTHENTICATION, objects=[PRINTED, OWN])
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    assert (card.objects[0x5FC109], card.objects[0x5F0001]) == (PRINTED.content, OWN.content)

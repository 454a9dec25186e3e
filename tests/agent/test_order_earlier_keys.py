"""Earlier encryption keys that an order has put on a card: refused, declined, as many as fit, all of them."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.handlers import retired_keys
from agent.pcsc.connection import CardConnection
from agent.ports import UserCancelled
from protocol.errors import InlayError
from protocol.messages import Algorithm, KeyOrder, KeySource, Purpose
from tests.cards.profiles import IMPORT, MOVE, P_256, P_384, PROFILES, RSA_2048
from tests.cards.simulated import PIN, SimulatedCard, SimulatedLink
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION, OrderAtPortal
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    NEW,
    agent,
    encode,
    first_encoding,
    order,
    personalised,
    undone,
    untouched,
    window_of,
    with_keys_of_before,
)
from tests.support.simulated_readers import SimulatedReaders

__all__ = ["agent"]

IMPORTING = next(each for each in PROFILES if IMPORT in each.yubico and MOVE in each.yubico and each.chuid)
OVERWRITING = dataclasses.replace(IMPORTING, yubico=IMPORTING.yubico - {MOVE})
NARROW = next(each for each in PROFILES if not each.has_place(0x5FC10C))
EARLIER = KeyOrder("82", Purpose.ENCRYPTION, Algorithm.P_256, KeySource.IMPORT, "CN=Alex", optional=True)
OLDER = msgspec.structs.replace(EARLIER, slot="83", algorithm=Algorithm.RSA_2048)


async def with_both(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, card: SimulatedCard
) -> OrderAtPortal:
    """An order that brings two of them, carried out to its end on this card."""
    readers.put(card)
    encode(portal, AUTHENTICATION, EARLIER, OLDER)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    return portal.orders[CODE]


def history(card: SimulatedCard) -> int:
    """How many retired keys the card counts, by SP 800-73pt1-5, table 20: C1 with their certificates, C2 without."""
    content = card.objects[0x5FC10C]
    assert content[:2] == b"\xc1\x01"
    assert content[3:] == b"\xc2\x01\x00\xfe\x00"
    return content[2]


def noted(agent: AgentParts) -> str:
    details = window_of(agent).details
    assert details is not None
    return " ".join(details.notes)


# --- refused


@pytest.mark.parametrize(
    ("driver", "key"),
    [
        ("piv", msgspec.structs.replace(EARLIER, source=KeySource.GENERATE)),
        ("piv", msgspec.structs.replace(EARLIER, source=KeySource.IMPORT_IF_POSSIBLE)),
        ("virtual", EARLIER),
    ],
)
async def test_what_no_card_could_go_on_without_asks_nobody(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, driver: str, key: KeyOrder
) -> None:
    readers.put(personalised(IMPORTING))
    changes: dict[str, Any] = {} if driver == "piv" else {"management": None}
    encode(portal, AUTHENTICATION, key, driver=driver, **changes)
    assert await order(agent, portal) == "order_malformed"
    assert agent.windows.opened == []


async def test_closed_at_consent_nothing_of_them_is_sent(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    readers.put(personalised(IMPORTING))
    encode(portal, AUTHENTICATION, EARLIER)
    agent.windows.answers = [UserCancelled("consent")]
    assert await order(agent, portal) == "user_cancelled"
    assert (await undone(portal)).requests is None
    assert untouched(readers)


# --- a card that takes none, or not all


async def test_a_card_that_takes_no_keys_declines_them_before_they_are_sent(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(next(each for each in PROFILES if IMPORT not in each.yubico and each.chuid))
    at = await with_both(agent, portal, readers, card)
    assert at.requests is not None
    assert at.requests.declined == ["82", "83"]
    assert 0x5FC10C not in card.objects
    assert "0 of 2" in noted(agent)


async def test_as_many_as_there_is_room_for_newest_first(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(dataclasses.replace(IMPORTING, retired=1))
    at = await with_both(agent, portal, readers, card)
    assert at.receipt is not None
    assert [proof.slot for proof in at.receipt.proofs] == ["9A", "82"]
    assert (card.imported, history(card)) == ({0x82}, 1)
    assert "1 of 2" in noted(agent)


async def test_a_key_whose_certificate_finds_no_room_does_not_stay_without_it(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(dataclasses.replace(IMPORTING, capacity=900))
    at = await with_both(agent, portal, readers, card)
    assert at.receipt is not None
    proved = {int(proof.slot, 16) for proof in at.receipt.proofs}
    assert proved == {slot for slot in card.keys if slot in (0x9A, 0x82, 0x83)}
    assert len(proved) < 3


async def test_a_card_that_can_not_count_them_takes_none(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    """It has no place for the key history: whoever gives it to somebody else would find no key."""
    card = personalised(NARROW)
    readers.put(card)
    encode(portal, AUTHENTICATION, EARLIER, OLDER)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    assert (card.imported, list(card.keys)) == (set(), [0x9A])
    assert "0 of 2" in noted(agent)


async def test_a_card_that_says_6a80_of_a_slot_that_it_has_not_goes_on_without(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    """So it does of an algorithm, and it deletes no keys: that the slot is empty shows when it is used."""
    card = personalised(dataclasses.replace(OVERWRITING, retired=0, bad_slot=0x6A80))
    readers.put(card)
    encode(portal, AUTHENTICATION, EARLIER, OLDER)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    assert list(card.keys) == [0x9A]
    assert history(card) == 0
    assert "0 of 2" in noted(agent)


@pytest.mark.parametrize("verified", [True, False])
def test_a_key_that_can_not_be_overwritten_is_not_taken_for_gone(verified: bool) -> None:
    card = SimulatedCard(dataclasses.replace(OVERWRITING, algorithms=(P_384,)))
    card.keys[0x82] = (P_256, ec.generate_private_key(ec.SECP256R1()))
    card.selected = card.managed = True
    card.pin_ok = verified
    with pytest.raises(InlayError) as caught:
        retired_keys._forget(CardConnection(SimulatedLink(card), "Reader"), 0x82)
    assert caught.value.code == "card_algorithm_missing"


# --- as it should be


async def test_all_of_them_are_on_the_card_counted_and_proved(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(IMPORTING)
    at = await with_both(agent, portal, readers, card)
    assert at.receipt is not None
    assert [proof.slot for proof in at.receipt.proofs] == ["9A", "82", "83"]
    assert all(proof.mac is not None for proof in at.receipt.proofs[1:])
    assert card.imported == {0x82, 0x83}
    assert card.keys[0x83][0] == RSA_2048
    assert {0x5FC10D, 0x5FC10E} <= card.objects.keys()
    assert history(card) == 2
    assert "2 of 2" in noted(agent)
    prompt = window_of(agent).prompt
    assert prompt is not None
    assert any("2 earlier encryption keys" in line for line in prompt.consequences)


async def test_torn_out_while_they_are_written_the_same_card_goes_on(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(IMPORTING)
    readers.put(card)
    encode(portal, AUTHENTICATION, EARLIER, OLDER)
    agent.windows.answers = [(None, None), (PIN, None)]
    torn: list[bytes] = []

    def once(_number: int, apdu: bytes) -> Literal["after"] | None:
        if apdu[1] != 0xFE or torn:
            return None
        torn.append(apdu)
        return "after"

    readers.tear, readers.torn = once, lambda reader: readers.put(card, reader)
    assert await order(agent, portal) == "finished"
    assert (card.imported, history(card)) == ({0x82, 0x83}, 2)
    assert torn


@pytest.mark.parametrize("deletes", [True, False])
async def test_whoever_gets_the_card_next_gets_no_key_of_its_holder_before(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, deletes: bool
) -> None:
    has = IMPORTING.yubico if deletes else IMPORTING.yubico - {MOVE}
    card = with_keys_of_before(personalised(dataclasses.replace(IMPORTING, yubico=has)), 0x82, 0x83)
    before = {slot: card.keys[slot][1] for slot in (0x82, 0x83)}
    readers.put(card)
    first_encoding(portal, AUTHENTICATION, clear_retired=True)
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "finished"
    for slot, old in before.items():
        assert slot not in card.keys or card.keys[slot][1] is not old
        assert (slot in card.keys) is not deletes
    assert {0x5FC10D, 0x5FC10E}.isdisjoint(card.objects)
    assert history(card) == 0


@pytest.mark.parametrize("deletes", [True, False])
async def test_a_key_of_its_holder_before_goes_where_the_order_has_none_for_its_slot(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, deletes: bool
) -> None:
    has = IMPORTING.yubico if deletes else IMPORTING.yubico - {MOVE}
    card = with_keys_of_before(personalised(dataclasses.replace(IMPORTING, yubico=has)), 0x9A, 0x9C, 0x9E)
    card.objects[0x5FC10A] = b"\x70\x01\x00\x71\x01\x00\xfe\x00"
    signed, other = card.keys[0x9C][1], card.keys[0x9E][1]
    readers.put(card)
    first_encoding(portal, AUTHENTICATION, clear=["9A", "9C"])
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "finished"
    assert 0x9C not in card.keys or card.keys[0x9C][1] is not signed
    assert (0x9C in card.keys) is not deletes
    assert 0x5FC10A not in card.objects
    assert 0x5FC105 in card.objects
    assert card.keys[0x9E][1] is other


async def test_keys_that_others_have_put_there_stay_and_their_places_are_not_taken(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = with_keys_of_before(personalised(IMPORTING), 0x82)
    before, content = card.keys[0x82], card.objects[0x5FC10D]
    readers.put(card)
    first_encoding(portal, AUTHENTICATION, EARLIER, OLDER)
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "finished"
    assert (card.keys[0x82], card.objects[0x5FC10D]) == (before, content)
    assert card.imported == {0x83}
    assert history(card) == 2
    assert "1 of 2" in noted(agent)


async def test_keys_of_an_order_before_are_written_over_by_the_same_ones(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest key comes first: with one more than before every other moves on by a place."""
    made = {slot: ec.generate_private_key(ec.SECP256R1()) for slot in ("82", "83")}
    monkeypatch.setattr("tests.support.fake_issuing._make_key", lambda key: made[key.slot])
    card = personalised(IMPORTING)
    readers.put(card)
    second = msgspec.structs.replace(OLDER, algorithm=Algorithm.P_256)
    for code, keys in ((CODE, (EARLIER,)), (OTHER_CODE, (EARLIER, second))):
        if code == OTHER_CODE:
            made["82"], made["83"] = ec.generate_private_key(ec.SECP256R1()), made["82"]
        encode(portal, AUTHENTICATION, *keys)
        agent.windows.answers = [(None, None), (PIN, None)]
        assert await order(agent, portal, code) == "finished"
    numbers = {slot: made[f"{slot:02X}"].private_numbers() for slot in (0x82, 0x83)}
    assert {slot: card.keys[slot][1].private_numbers() for slot in numbers} == numbers
    assert history(card) == 2

"""Orders *encode card* whose certificates don't fit: what of the card is as it was, what isn't, and what is said."""

from __future__ import annotations

import dataclasses
import random
import string

from protocol.messages import KeyOrder
from tests.cards.simulated import SimulatedCard
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.issued_ledger import Standing
from tests.support.physical_orders import (
    FRESH,
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

_9A, _9C = 0x5FC105, 0x5FC10A
SMALLER, ROOM = "smaller certificate", "more room"


def longer(key: KeyOrder) -> KeyOrder:
    """The same key, of a subject that makes its certificate longer, packed too."""
    letters = random.Random(7)  # noqa: S311 - the same each time
    names = ["".join(letters.choices(string.ascii_letters + string.digits, k=60)) for _ in range(3)]
    subject = ",".join(f"OU={name}" for name in names)
    return KeyOrder(key.slot, key.purpose, key.algorithm, key.source, subject)


def full(card: SimulatedCard, *, frees: bool = True) -> dict[int, bytes]:
    """Let a card be full with what it has; what that is."""
    used = sum(map(len, card.objects.values()))
    card.profile = dataclasses.replace(card.profile, capacity=used + 20, frees=frees)
    return dict(card.objects)


async def encoded(agent: AgentParts, portal: FakePortal, readers: SimulatedReaders) -> SimulatedCard:
    """A card with two keys and their certificates."""
    card = personalised()
    readers.put(card)
    first_encoding(portal, AUTHENTICATION, SIGNATURE)
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal, CODE) == "finished"
    return card


async def again(agent: AgentParts, portal: FakePortal, *keys: KeyOrder) -> str:
    """Encode it once more, by its PIN; the code of the end."""
    encode(portal, *keys, guid=FRESH)
    agent.windows.answers = [(None, None), (NEW, None)]
    return await order(agent, portal, OTHER_CODE)


def standings(portal: FakePortal) -> list[Standing]:
    return [entry.standing for entry in portal.ca.ledger.entries]


async def test_with_kept_keys_the_card_is_as_it_was_and_its_certificates_stay_good(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    """The larger one comes first, wherever it stands in the order."""
    card = await encoded(agent, portal, readers)
    before = full(card)
    ended = await again(agent, portal, kept(AUTHENTICATION), longer(kept(SIGNATURE)))
    assert ended == "card_object_too_large"
    at = await undone(portal, OTHER_CODE)
    assert (at.changing, at.unchanged) == (1, True)
    assert card.objects == before
    assert standings(portal) == [Standing.VALID, Standing.VALID, Standing.REVOKED, Standing.REVOKED]
    error = window_of(agent).error
    assert error is not None
    assert SMALLER in error.next_step
    assert "Nothing was changed" in error.next_step
    assert "half done" not in error.next_step


async def test_with_kept_keys_of_which_one_certificate_is_written_it_is_half_done(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = await encoded(agent, portal, readers)
    before = full(card)
    card.profile = dataclasses.replace(card.profile, capacity=card.profile.capacity + 180)
    ended = await again(agent, portal, longer(kept(AUTHENTICATION)), longer(kept(SIGNATURE)))
    assert ended == "card_object_too_large"
    at = await undone(portal, OTHER_CODE)
    assert (at.changing, at.unchanged) == (1, False)
    # a signature's length varies, and with it which of the two is the larger one
    assert sorted(card.objects[tag] == before[tag] for tag in (_9A, _9C)) == [False, True]
    error = window_of(agent).error
    assert error is not None
    assert SMALLER in error.next_step
    assert "The card is half done." in error.next_step
    assert "Nothing was changed" not in error.next_step


async def test_with_new_keys_the_half_done_card_comes_with_what_helps(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = await encoded(agent, portal, readers)
    before = full(card)
    assert await again(agent, portal, longer(AUTHENTICATION)) == "card_object_too_large"
    at = await undone(portal, OTHER_CODE)
    assert (at.changing, at.unchanged) == (1, False)
    assert card.objects[_9A] == before[_9A]
    error = window_of(agent).error
    assert error is not None
    assert SMALLER in error.next_step
    assert "The card is half done." in error.next_step
    assert "Nothing was changed" not in error.next_step


async def test_a_card_that_frees_nothing_by_deleting_has_lost_its_certificate_and_says_so(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = await encoded(agent, portal, readers)
    full(card, frees=False)
    assert await again(agent, portal, longer(kept(AUTHENTICATION))) == "card_object_lost"
    at = await undone(portal, OTHER_CODE)
    assert (at.changing, at.unchanged) == (1, False)
    assert _9A not in card.objects
    assert _9C in card.objects
    error = window_of(agent).error
    assert error is not None
    assert ROOM in error.next_step
    assert "The card is half done." in error.next_step


async def test_a_card_torn_out_between_its_old_certificate_and_the_new_one_gets_the_old_one_back(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = await encoded(agent, portal, readers)
    before = full(card)
    deletes = bytes.fromhex("5C035FC1055300")
    torn: list[int] = []

    def tear(number: int, apdu: bytes) -> str | None:
        if torn or not apdu.rstrip(b"\x00").endswith(deletes.rstrip(b"\x00")):
            return None
        torn.append(number)
        return "after"

    readers.tear = tear
    put_back(readers, card)
    assert await again(agent, portal, longer(kept(AUTHENTICATION))) == "card_object_too_large"
    assert torn
    assert (await undone(portal, OTHER_CODE)).unchanged
    assert card.objects == before

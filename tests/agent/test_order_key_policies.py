"""Orders whose keys ask for the PIN or a touch otherwise than usual: cards that can't have such keys, then others."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from protocol.messages import KeyOrder, KeyPinPolicy, KeyTouchPolicy
from tests.cards.independent.in_reader import INDEPENDENT, IndependentProfile, InReader
from tests.support.agent_parts import OTHER_CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    ENCRYPTION_RSA,
    NEW,
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

PIN = b"123456"
ALWAYS, ONCE, NEVER = KeyPinPolicy.ALWAYS, KeyPinPolicy.ONCE, KeyPinPolicy.NEVER
TOUCH, CACHED, UNTOUCHED = KeyTouchPolicy.ALWAYS, KeyTouchPolicy.CACHED, KeyTouchPolicy.NEVER
CARD_AUTHENTICATION = msgspec.structs.replace(AUTHENTICATION, slot="9E")


def kind(name: str) -> IndependentProfile:
    return next(each for each in INDEPENDENT if each.name.startswith(name))


NEWEST, OLDEST, BETWEEN = kind("YubiKey 5.7"), kind("YubiKey 4"), kind("YubiKey 5.3")
NOT_TOUCHED = dataclasses.replace(
    NEWEST, personality=dataclasses.replace(NEWEST.personality, touch=False), name="nothing to touch"
)


class DeafCard(InReader):
    """It takes policies, and makes keys as it always does."""

    def __init__(self, profile: IndependentProfile) -> None:
        super().__init__(profile)
        usual = self.inner.policies
        self.inner.policies = lambda slot, given: usual(slot, {})  # type: ignore[method-assign]


def with_policies(
    key: KeyOrder, pin: KeyPinPolicy | None = None, touch: KeyTouchPolicy | None = None
) -> KeyOrder:
    return msgspec.structs.replace(key, pin_policy=pin, touch_policy=touch)


def card(profile: IndependentProfile) -> InReader:
    found = personalised(profile)
    assert isinstance(found, InReader)
    return found


def policies(made: InReader, slot: int) -> tuple[int, int]:
    pair = made.inner.slots[slot]
    return pair.pin_policy, pair.touch_policy


# --- refused before anything is changed


@pytest.mark.parametrize("name", ["pure 73-4", "PivApplet", "OpenFIPS201", "CanoKey", "Nitrokey"])
@pytest.mark.parametrize(
    ("key", "policy"),
    [
        (with_policies(AUTHENTICATION, ALWAYS), "PIN always"),
        (with_policies(SIGNATURE, ALWAYS, TOUCH), "PIN always, touch always"),
        (with_policies(CARD_AUTHENTICATION, ONCE), "PIN once"),
    ],
)
async def test_a_card_that_does_not_show_that_it_can_is_as_it_was(
    agent: AgentParts,
    portal: FakePortal,
    readers: SimulatedReaders,
    name: str,
    key: KeyOrder,
    policy: str,
) -> None:
    """CanoKey-like cards tell policies and take none; PivApplet-like ones take them, and nothing tells beforehand."""
    found = card(kind(name))
    readers.put(found)
    before = (dict(found.objects), dict(found.keys), found.pin, found.puk)
    first_encoding(portal, key)
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "card_policy_missing"
    assert (await undone(portal)).changing == 0
    assert (dict(found.objects), dict(found.keys), found.pin, found.puk) == before
    error = window_of(agent).error
    assert error is not None
    assert error.fields == {"slot": key.slot, "policy": policy}
    assert error.next_step.endswith("Nothing was changed.")


@pytest.mark.parametrize("deaf", [False, True])
async def test_what_a_card_takes_no_notice_of_is_seen_before_a_key_is_lost_where_it_deletes_keys(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, deaf: bool
) -> None:
    found = DeafCard(NEWEST) if deaf else card(NOT_TOUCHED)
    found.objects[0x5FC102] = card(NEWEST).objects[0x5FC102]
    readers.put(found)
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    before = (dict(found.objects), dict(found.inner.slots))
    encode(portal, with_policies(AUTHENTICATION, touch=TOUCH))
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal, OTHER_CODE) == "card_policy_missing"
    assert (dict(found.objects), dict(found.inner.slots)) == before


async def test_a_key_from_elsewhere_needs_a_card_that_tells_of_such_keys(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    """Attestation states keys that were made on the card alone."""
    found = card(OLDEST)
    readers.put(found)
    encode(portal, with_policies(ENCRYPTION_RSA, ALWAYS))
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "card_policy_missing"
    assert (await undone(portal)).changing == 0
    assert not found.inner.slots.keys() - {0xF9}


@pytest.mark.parametrize("profile", [NEWEST, OLDEST], ids=lambda each: each.name)
async def test_a_key_that_stays_has_to_have_them(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: IndependentProfile
) -> None:
    found = card(profile)
    readers.put(found)
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    before = dict(found.objects)
    encode(portal, with_policies(kept(AUTHENTICATION), ALWAYS))
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal, OTHER_CODE) == "card_policy_other"
    assert (await undone(portal, OTHER_CODE)).changing == 0
    assert found.objects == before


async def test_nobody_touches_it(agent: AgentParts, portal: FakePortal, readers: SimulatedReaders) -> None:
    found = card(NEWEST)
    found.inner.touched = lambda: False
    readers.put(found)
    encode(portal, with_policies(AUTHENTICATION, touch=TOUCH))
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "card_not_touched"
    assert found.pin_left == 3
    error = window_of(agent).error
    assert error is not None
    assert "half done" in error.next_step


@pytest.mark.parametrize("profile", [NEWEST, OLDEST], ids=lambda each: each.name)
async def test_a_later_order_that_knows_nothing_of_a_touch_says_that_it_was_missing(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: IndependentProfile
) -> None:
    found = card(profile)
    readers.put(found)
    encode(portal, with_policies(AUTHENTICATION, touch=TOUCH))
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    found.inner.touched = lambda: False
    encode(portal, kept(AUTHENTICATION))
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal, OTHER_CODE) == "card_not_touched"
    assert found.pin_left == 3


# --- any card fulfils what the standard has


@pytest.mark.parametrize("name", ["pure 73-4", "OpenFIPS201", "CanoKey", "YubiKey 4", "YubiKey 5.7"])
async def test_what_the_standard_has_anyway_any_card_fulfils_and_nothing_is_sent(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, name: str
) -> None:
    found = card(kind(name))
    readers.put(found)
    keys = [
        with_policies(AUTHENTICATION, ONCE, UNTOUCHED),
        with_policies(SIGNATURE, ALWAYS, UNTOUCHED),
        with_policies(CARD_AUTHENTICATION, NEVER, UNTOUCHED),
    ]
    encode(portal, *keys)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    made = [apdu for apdu in found.commands if apdu[1] == 0x47]
    assert len(made) == 3
    assert not any(b"\xaa\x01" in apdu or b"\xab\x01" in apdu for apdu in made)
    assert [policies(found, slot) for slot in (0x9A, 0x9C, 0x9E)] == [(2, 1), (3, 1), (1, 1)]


# --- as it should go


@pytest.mark.parametrize("profile", [OLDEST, BETWEEN, NEWEST], ids=lambda each: each.name)
async def test_keys_are_made_with_their_policies_and_may_stay(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: IndependentProfile
) -> None:
    found = card(profile)
    touched = iter(range(1, 100))
    found.inner.touched = lambda: next(touched) > 0
    readers.put(found)
    keys = [
        with_policies(AUTHENTICATION, ALWAYS, CACHED),
        with_policies(SIGNATURE, None, TOUCH),
        with_policies(CARD_AUTHENTICATION, ONCE),
    ]
    encode(portal, *keys)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    assert [policies(found, slot) for slot in (0x9A, 0x9C, 0x9E)] == [(3, 3), (3, 2), (2, 1)]
    assert next(touched) == 5  # a request and a proof by each of the two
    assert not found.inner.slots.keys() & set(range(0x82, 0x96))  # what was tried is gone
    window = window_of(agent)
    assert "works after a touch of the card alone" in " ".join(window.asked[0].consequences)
    assert any("Touch it whenever it blinks" in text for text in window.texts)
    encode(portal, *map(kept_with_policies, keys))
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal, OTHER_CODE) == "finished"


def kept_with_policies(key: KeyOrder) -> KeyOrder:
    return with_policies(kept(key), key.pin_policy, key.touch_policy)


async def test_a_key_from_elsewhere_gets_them_too(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    found = card(BETWEEN)
    readers.put(found)
    encode(portal, with_policies(ENCRYPTION_RSA, ALWAYS, TOUCH))
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    assert policies(found, 0x9D) == (3, 2)
    assert found.inner.slots[0x9D].imported


async def test_without_policies_nothing_is_asked_of_a_card(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    found = card(NEWEST)
    readers.put(found)
    encode(portal, AUTHENTICATION)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    assert not [apdu for apdu in found.commands if apdu[1] in (0xF6, 0xF9)]


async def test_cards_that_are_not_piv_cards_have_none(agent: AgentParts, portal: FakePortal) -> None:
    encode(portal, with_policies(AUTHENTICATION, ALWAYS), driver="pkcs11", management=None)
    assert await order(agent, portal) == "order_malformed"
    assert agent.windows.opened == []

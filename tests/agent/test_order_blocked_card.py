"""A card whose PIN and PUK are both blocked: never reset unasked or unordered, torn at its RESET, then encoded anew."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.ports import UserCancelled
from protocol.messages import CardIdentity, PinEntry
from tests.cards.independent.in_reader import card_of, independent, kinds
from tests.cards.profiles import METADATA, PROFILES, RESET, SERIAL, VERSION, Profile
from tests.cards.simulated import FACTORY_KEY, PUK, SimulatedCard, factory_key
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    FRESH,
    GUID,
    NEW,
    encoding_agent,
    first_encoding,
    instructions,
    order,
    personalised,
    portals_identity,
    undone,
    untouched,
    window_of,
)
from tests.support.simulated_readers import SimulatedReaders

OLD_KEY, OLD_PIN, OLD_PUK = bytes(range(101, 125)), b"864209", b"75319864"
OWN_PUK = b"97531864"
CAN = [each for each in PROFILES if RESET in each.yubico]
TELLS = next(each for each in CAN if each.metadata)
TELLS_NO_PUK = next(each for each in CAN if not each.metadata)
EACH = kinds(6, lambda kind: RESET in kind.yubico)
RENAMED = next(each for each in CAN if each.chuid_by_reset)
CANNOT = [
    PROFILES[0],
    next(each for each in PROFILES if VERSION in each.yubico and RESET not in each.yubico),
    *independent(0, lambda kind: RESET not in kind.yubico),
]
RENUMBERED = independent(0, lambda kind: RESET in kind.yubico and kind.chuid_by_reset)
YES, ERASE = (None, NEW), (None, None)


def keeps_number(kind: Profile) -> bool:
    """Whether a card has the serial number after a reset that it had before."""
    return {RESET, SERIAL} <= kind.yubico and not kind.chuid_by_reset


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with encoding_agent(tmp_path / "home", readers, portal) as running:
        portal.management_keys, portal.new_puk = [OLD_KEY, FACTORY_KEY], OWN_PUK
        ordered(portal)
        running.windows.answers = [YES, ERASE]
        yield running


def ordered(portal: FakePortal, **changes: Any) -> None:
    first_encoding(portal, AUTHENTICATION, **{"new_puk": True, "reset": True, **changes})
    portal.puk = PUK


def blocked(profile: Profile, guid: str = GUID) -> SimulatedCard:
    """A card that somebody has used, with all that is in it; no try is left."""
    card = personalised(profile, guid)
    card.pin, card.puk = OLD_PIN.ljust(8, b"\xff"), OLD_PUK
    card.keys_by_algorithm = dict.fromkeys(card.keys_by_algorithm, OLD_KEY)
    card.objects[0x5FC105] = b"\x70\x02\x30\x00\x71\x01\x00\xfe\x00"
    card.pin_left = card.puk_left = 0
    return card


def state(card: SimulatedCard) -> tuple[object, ...]:
    return (dict(card.objects), dict(card.keys), card.pin, card.puk, card.pin_left, card.puk_left)


@pytest.mark.parametrize(
    "profile", [TELLS, *independent(4, lambda kind: kind.metadata)], ids=lambda profile: profile.name
)
async def test_an_order_that_allows_no_reset_says_what_is_the_matter_and_changes_nothing(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    readers.put(card := blocked(profile, FRESH))
    before = state(card)
    keeps_pin: dict[str, Any] = {"identity": None, "steps": [], "pin": PinEntry(kind="verify")}
    for code, changes in ((CODE, {}), (OTHER_CODE, keeps_pin)):
        ordered(portal, **{"reset": False, "new_puk": False, **changes})
        agent.windows.answers = [(None, None) if changes else YES]
        assert await order(agent, portal, code) == "card_both_blocked"
        assert (await undone(portal, code)).changing == 0
    assert 0xFB not in instructions(readers)
    assert state(card) == before


@pytest.mark.parametrize("wrong", ["no new PUK", "no identity", "no number"])
async def test_a_reset_that_would_leave_a_card_unsafe_or_not_to_be_told_is_refused(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, wrong: str
) -> None:
    readers.put(blocked(TELLS))
    changes: dict[str, dict[str, Any]] = {
        "no new PUK": {"new_puk": False},
        "no identity": {"identity": None},
        "no number": {"identity": CardIdentity(previous=GUID)},
    }
    ordered(portal, **changes[wrong])
    assert await order(agent, portal) == "encoding_unsupported"
    assert readers.trace == []


@pytest.mark.parametrize(
    "profile", [TELLS, *independent(5, lambda kind: RESET in kind.yubico)], ids=lambda profile: profile.name
)
async def test_who_doesnt_agree_keeps_what_is_on_the_card(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    readers.put(card := blocked(profile))
    before = state(card)
    agent.windows.answers = [YES, UserCancelled("consent")]
    assert await order(agent, portal) == "user_cancelled"
    assert (await undone(portal)).changing == 0
    assert 0xFB not in instructions(readers)
    assert untouched(readers)
    assert state(card) == before
    asked = window_of(agent).asked[-1]
    assert (asked.title, asked.confirm_label) == ("Erase the card?", "Erase")
    assert "Every key and certificate on it is erased" in " ".join(asked.consequences)


@pytest.mark.parametrize("profile", CANNOT, ids=lambda profile: profile.name)
async def test_a_card_that_has_no_reset_ends_honestly_and_is_as_it_was(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    """One that doesn't tell of its PUK is found to be blocked by the portal's PUK, which costs no try then."""
    readers.put(card := blocked(profile, FRESH))
    card.keys_by_algorithm = {each: factory_key(each) for each in card.keys_by_algorithm}
    portal.management_keys = [FACTORY_KEY]
    before = state(card)
    assert await order(agent, portal) == "card_no_reset"
    assert state(card) == before
    says_so_itself = VERSION in profile.yubico  # when it is reset: nothing can be known of that before
    assert instructions(readers).count(0xFB) == says_so_itself
    # nor of a PUK that can't be tried on itself
    assert (await undone(portal)).changing == (says_so_itself or not profile.changes_puk)
    error = window_of(agent).error
    assert error is not None
    assert "Use a new card" in error.next_step


@pytest.mark.parametrize("identity", ["maker's", "none"])
@pytest.mark.parametrize("left", [0, 2])
async def test_a_card_that_cant_be_reset_is_known_by_its_puk_before_it_is_changed(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, left: int, identity: str
) -> None:
    """A right PUK costs nothing by it, a wrong one its try; a card whose PUK is blocked, too, is as it was."""
    card = personalised(CANNOT[0]) if identity == "maker's" else SimulatedCard(CANNOT[0])
    card.pin_left, card.puk_left = 0, left
    readers.put(card)
    before = state(card)
    portal.management_keys = [FACTORY_KEY]
    if left:
        portal.puk = b"00000000"
        assert await order(agent, portal) == "card_puk_other"
        assert (card.puk_left, (await undone(portal)).changing) == (left - 1, 0)
        card.puk_left, portal.puk = left, PUK
        agent.windows.answers = [YES]
        assert await order(agent, portal, OTHER_CODE) == "finished"
        assert (card.puk, card.pin) == (OWN_PUK, NEW.ljust(8, b"\xff"))
    else:
        assert await order(agent, portal) == "card_no_reset"
        assert (state(card), (await undone(portal)).changing) == (before, 0)


@pytest.mark.parametrize("which", ["PIN", "PUK"])
@pytest.mark.parametrize(
    "profile",
    [TELLS, *independent(2, lambda kind: RESET in kind.yubico and kind.metadata)],
    ids=lambda profile: profile.name,
)
async def test_a_card_of_which_one_alone_is_blocked_is_never_reset(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile, which: str
) -> None:
    """A blocked PIN gets a new one by the PUK, as ever; a blocked PUK is said."""
    card = card_of(profile)
    setattr(card, f"{which.lower()}_left", 0)
    readers.put(card)
    agent.windows.answers = [YES]
    assert await order(agent, portal) == ("finished" if which == "PIN" else "card_puk_blocked")
    assert 0xFB not in instructions(readers)


@pytest.mark.parametrize(
    "profile",
    [
        TELLS_NO_PUK,
        *independent(0, lambda kind: RESET in kind.yubico and not (kind.metadata or kind.reset_by_pin)),
    ],
    ids=lambda profile: profile.name,
)
async def test_a_card_that_refuses_because_its_puk_isnt_blocked_after_all_is_unblocked(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    """It doesn't tell of its PUK. Asked for a reset it says no, and nothing is gone."""
    card = card_of(profile)
    card.pin_left = 0
    card.objects[0x5FC10B] = b"\x70\x02\x30\x00\x71\x01\x00\xfe\x00"
    readers.put(card)
    assert await order(agent, portal) == "finished"
    assert instructions(readers).count(0xFB) == 1
    assert 0x5FC10B in card.objects
    assert "doesn't tell whether its PUK is" in window_of(agent).asked[1].consequences[0]


@pytest.mark.parametrize(
    "profile",
    [
        dataclasses.replace(TELLS_NO_PUK, reset_by_pin=True),
        *independent(0, lambda kind: kind.reset_by_pin),
    ],
    ids=lambda profile: profile.name,
)
async def test_a_card_that_looks_at_the_pin_alone_is_erased_as_its_person_was_told(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    card = card_of(profile)
    card.pin_left = 0
    card.objects[0x5FC105] = b"\x70\x02\x30\x00\x71\x01\x00\xfe\x00"
    readers.put(card)
    assert await order(agent, portal) == "finished"
    assert "some are put back all the same" in window_of(agent).asked[1].consequences[1]
    judged(card)


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize(
    "profile",
    [
        TELLS,
        TELLS_NO_PUK,
        RENAMED,
        *independent(3, lambda kind: RESET in kind.yubico and not kind.chuid_by_reset),
    ],
    ids=lambda profile: profile.name,
)
async def test_torn_out_at_the_reset_and_put_back_it_goes_on(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile, side: str
) -> None:
    readers.put(card := blocked(profile))
    torn = False

    def tear(_number: int, apdu: bytes) -> str | None:
        nonlocal torn
        if apdu[1] != 0xFB or torn:
            return None
        torn = True
        return side

    readers.tear = tear
    readers.torn = lambda reader: readers.put(card, reader)
    assert await order(agent, portal) == "finished"
    assert instructions(readers).count(0xFB) == (2 if side == "before" else 1)
    judged(card)


@pytest.mark.parametrize("instruction", [0x24, 0x47, 0xDB, 0xFF])
@pytest.mark.parametrize("profile", RENUMBERED, ids=lambda profile: profile.name)
async def test_a_card_that_has_another_number_since_its_reset_is_known_by_that_one(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile, instruction: int
) -> None:
    """Torn out at any time after it; at PUK, key, object and management key."""
    readers.put(card := blocked(profile))
    told, torn = card.serial, False

    def tear(_number: int, apdu: bytes) -> str | None:
        nonlocal torn
        if torn or apdu[1] != instruction or card.serial == told:
            return None
        torn = True
        return "before"

    readers.tear = tear
    readers.torn = lambda reader: readers.put(card, reader)
    assert await order(agent, portal) == "finished"
    assert torn
    judged(card)
    request = portal.orders[CODE].requests
    assert request is not None
    assert request.serial is None  # the portal knows it by the number that it had


@pytest.mark.parametrize("profile", RENUMBERED, ids=lambda profile: profile.name)
async def test_one_that_was_torn_out_at_the_reset_itself_is_another_one_by_its_number(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    """Nothing tells it from another card that was blank. Who gives it up is told that it is half done."""
    readers.put(card := blocked(profile))
    readers.tear = lambda _number, apdu: "after" if apdu[1] == 0xFB else None
    readers.torn = lambda reader: readers.put(card, reader)
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("is another one, and stays as it is")
    assert "Without it the card stays half done" in window.texts[-1]
    await window.close_by_person()
    assert await ending == "user_cancelled"
    assert (await undone(portal)).changing == 1


@pytest.mark.parametrize("profile", [TELLS, *independent(1, keeps_number)], ids=lambda profile: profile.name)
async def test_given_up_behind_the_reset_a_fresh_order_finishes_the_card(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    readers.put(card := blocked(profile))
    readers.tear = lambda _number, apdu: "after" if apdu[1] == 0xFB else None
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("Put the card “Card 7” back")
    await window.close_by_person()
    assert await ending == "user_cancelled"
    assert (await undone(portal)).changing == 1
    assert (card.objects.get(0x5FC102), card.pin_left) == (None, profile.pin_tries)
    readers.tear = lambda _number, _apdu: None
    readers.put(card)
    portal.puk_unsure = True
    agent.windows.answers = [YES, ERASE]  # a card that doesn't tell whose PUK it has asks for a try
    assert await order(agent, portal, OTHER_CODE) == "finished"
    judged(card)


@pytest.mark.parametrize("profile", [TELLS, *independent(2, keeps_number)], ids=lambda profile: profile.name)
async def test_another_blank_card_behind_the_reset_is_refused(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    card, other = blocked(profile), card_of(profile)
    other.serial = b"\0\0\0\7"
    other.objects.clear()
    readers.put(card)
    readers.tear = lambda _number, apdu: "after" if apdu[1] == 0xFB else None
    readers.torn = lambda reader: readers.put(other, reader)
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("is another one, and stays as it is")
    assert other.objects == {}
    readers.tear = lambda _number, _apdu: None
    readers.put(card)
    assert await ending == "finished"
    judged(card)


@pytest.mark.parametrize("known", ["first encoding", "encoded before"])
@pytest.mark.parametrize("profile", EACH, ids=lambda profile: profile.name)
async def test_a_blocked_card_is_erased_and_encoded(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile, known: str
) -> None:
    """The portal's key comes from the maker's again, whichever one it had before; so does the PUK."""
    if known == "encoded before":
        identity = portals_identity()
        ordered(portal, identity=CardIdentity(GUID, identity.serial, True, identity.printed))
        portal.puk_unsure = True  # by an order of before: worth nothing once it is reset
    readers.put(card := blocked(profile))
    assert await order(agent, portal) == "finished"
    at = next(iter(portal.orders.values()))
    assert at.changing == 1
    assert at.receipt is not None
    assert at.receipt.puk_replaced
    assert instructions(readers).count(0xFB) == 1
    judged(card)
    assert len(window_of(agent).asked) == 2 or METADATA not in profile.yubico


def judged(card: SimulatedCard) -> None:
    """It has what the order brought, and nothing of before."""
    assert card.objects[0x5FC102][29:45].hex() == FRESH
    assert (card.pin, card.puk) == (NEW.ljust(8, b"\xff"), OWN_PUK)
    assert set(card.keys) - {0xF9} == {0x9A}
    assert card.objects[0x5FC105] != b"\x70\x02\x30\x00\x71\x01\x00\xfe\x00"
    assert card.pin_left == card.profile.pin_tries
    assert OLD_KEY not in card.keys_by_algorithm.values()

"""An order that gives a card its first PIN and a PUK of its own: refused, torn, found out, then as it should go."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from protocol.messages import CardStep, PinEntry, PinPolicy
from tests.cards.independent.in_reader import card_of, kinds
from tests.cards.profiles import PROFILES, Profile
from tests.cards.simulated import FACTORY_KEY, PUK, SimulatedCard
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    NEW_KEY,
    agent,
    first_encoding,
    order,
    personalised,
    put_back,
    undone,
    untouched,
    window_of,
)
from tests.support.simulated_readers import SimulatedReaders

__all__ = ["agent"]

OWN, GIVEN = b"97531864", b"280914"
CHANGE_PUK = (0x24, 0x81)
SILENT = PROFILES[0]
TELLS = next(profile for profile in PROFILES if profile.metadata and profile.unknown_key != 0x9000)


def issue(portal: FakePortal, **changes: object) -> None:
    """Have the portal's next order give a card everything, its first PIN and a PUK of its own included."""
    portal.pin, portal.new_puk = GIVEN, OWN
    first_encoding(
        portal, AUTHENTICATION, SIGNATURE, **{"pin": PinEntry(kind="given"), "new_puk": True, **changes}
    )


def tear_at_change(readers: SimulatedReaders, card: SimulatedCard, side: str, times: int = 1) -> None:
    """Tear the card out at CHANGE REFERENCE DATA of the PUK, so often, and put it back."""
    torn: list[int] = []

    def tear(number: int, apdu: bytes) -> str | None:
        if (apdu[1], apdu[3]) != CHANGE_PUK or len(torn) == times:
            return None
        torn.append(number)
        return side

    readers.tear = tear
    put_back(readers, card)


def watched(card: SimulatedCard) -> list[int]:
    """The lowest number of tries that the card's PUK ever has from now on."""
    lowest, done = [card.puk_left], card.transmit

    def transmit(raw: bytes) -> bytes:
        answer = done(raw)
        lowest[0] = min(lowest[0], card.puk_left)
        return answer

    card.transmit = transmit  # type: ignore[method-assign]
    return lowest


def padded(pin: bytes) -> bytes:
    return pin.ljust(8, b"\xff")


# --- refused


@pytest.mark.parametrize(
    "changes",
    [
        {"pin": PinEntry(kind="given", policy=PinPolicy())},
        {"pin": PinEntry(kind="given", where="pad")},
        {"steps": []},
    ],
    ids=["given and chosen", "given at the pad", "a new PUK without a new PIN"],
)
async def test_what_nobody_can_carry_out_is_refused_before_anybody_is_asked(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, changes: dict[str, object]
) -> None:
    readers.put(personalised())
    issue(portal, **changes)
    assert await order(agent, portal) == "encoding_unsupported"
    assert readers.trace == []


@pytest.mark.parametrize("missing", ["pin", "new_puk"])
async def test_a_portal_that_leaves_out_what_it_was_to_give_changes_nothing_by_guessing(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, missing: str
) -> None:
    card = personalised()
    readers.put(card)
    issue(portal)
    setattr(portal, missing, None)
    agent.windows.answers = [(None, None)]
    assert await order(agent, portal) == "params_invalid"
    assert (card.pin, card.puk) == (padded(b"123456"), PUK)
    assert untouched(readers)


@pytest.mark.parametrize("tells", [False, True])
async def test_a_card_with_another_puk_loses_one_try_and_is_told(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, tells: bool
) -> None:
    card = personalised(TELLS if tells else SILENT)
    card.puk = b"11223344"
    readers.put(card)
    issue(portal)
    agent.windows.answers = [(None, None)]
    assert await order(agent, portal) == "card_puk_other"
    assert card.puk_left == card.profile.puk_tries - 1
    assert card.puk == b"11223344"


# --- torn


@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_card_that_tells_of_its_puk_goes_on_without_a_try(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, side: str
) -> None:
    card = personalised(TELLS)
    readers.put(card)
    tear_at_change(readers, card, side)
    issue(portal)
    agent.windows.answers = [(None, None)]
    assert await order(agent, portal) == "finished"
    assert (card.pin, card.puk, card.puk_left) == (padded(GIVEN), OWN, TELLS.puk_tries)
    assert len(window_of(agent).asked) == 1
    assert [apdu[1] for apdu in readers.trace].count(0x24) == (2 if side == "before" else 1)


@pytest.mark.parametrize("side", ["before", "after"])
async def test_where_the_card_does_not_tell_a_person_is_asked_before_a_try_may_be_spent(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, side: str
) -> None:
    card = personalised(SILENT)
    readers.put(card)
    tear_at_change(readers, card, side)
    issue(portal)
    agent.windows.answers = [(None, None), (None, None)]
    assert await order(agent, portal) == "finished"
    assert "may cost one of the PUK's tries" in (window_of(agent).asked[1].warning or "")
    assert (card.pin, card.puk, card.puk_left) == (padded(GIVEN), OWN, SILENT.puk_tries)


async def test_who_does_not_want_to_spend_a_try_leaves_a_half_done_card(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(SILENT)
    readers.put(card)
    tear_at_change(readers, card, "after")
    issue(portal)
    agent.windows.answers = [(None, None)]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until("ask", 2)
    assert not card.managed  # nobody is waited for with a card that something was proved to
    await window.close_by_person()
    assert await ending == "user_cancelled"
    assert card.puk_left == SILENT.puk_tries
    assert (await undone(portal)).changing == 1


async def test_with_two_tries_left_nobody_is_asked_to_spend_one(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(dataclasses.replace(TELLS, puk_tries=2))
    card.puk = b"55667788"
    readers.put(card)
    portal.puk = b"55667788"  # not the maker's: the card's flag tells nothing of it
    portal.puk_unsure = True
    issue(portal)
    agent.windows.answers = [(None, None)]
    assert await order(agent, portal) == "card_puk_unknown"
    assert card.puk_left == 2


@pytest.mark.parametrize("tells", [False, True])
async def test_a_wrong_puk_whose_answer_never_came_never_costs_the_last_try(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, tells: bool
) -> None:
    """Neither PUK is the card's. Where it tells, the lost try says so; where not, its next answer does."""
    card = personalised(TELLS if tells else SILENT)
    card.puk = b"11223344"
    lowest = watched(card)
    readers.put(card)
    tear_at_change(readers, card, "after")
    issue(portal)
    agent.windows.answers = [(None, None), (None, None)]
    assert await order(agent, portal) == ("card_puk_other" if tells else "card_puk_unknown")
    assert lowest == [card.profile.puk_tries - (1 if tells else 2)] != [0]
    assert card.pin == padded(b"123456")


async def test_a_card_that_does_not_tell_is_sent_a_puk_that_may_be_wrong_twice_at_the_most(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(SILENT)
    readers.put(card)
    tear_at_change(readers, card, "before", times=9)
    issue(portal)
    agent.windows.answers = [(None, None)] * 4
    assert await order(agent, portal) == "card_puk_unknown"
    assert [apdu[1] for apdu in readers.trace].count(0x24) == 2


async def test_a_blocked_puk_is_called_so_and_nobody_is_asked(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(TELLS)
    card.puk, card.puk_left, portal.puk = b"55667788", 0, b"55667788"
    readers.put(card)
    portal.puk_unsure = True
    issue(portal)
    agent.windows.answers = [(None, None)]
    assert await order(agent, portal) == "card_puk_blocked"
    assert len(window_of(agent).asked) == 1


@pytest.mark.parametrize("side", ["before", "after"])
async def test_another_card_that_is_put_in_is_not_told_any_puk(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, side: str
) -> None:
    card, other = personalised(SILENT), personalised(SILENT, guid="ab" * 16)
    readers.put(card)
    tear_at_change(readers, card, side)
    readers.torn = lambda _reader: readers.put(other, "Two")
    issue(portal)
    agent.windows.answers = [(None, None), (None, None)]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("another one")
    readers.put(card)
    assert await ending == "finished"
    assert (other.puk, other.puk_left, other.pin) == (PUK, SILENT.puk_tries, padded(b"123456"))
    assert (card.pin, card.puk) == (padded(GIVEN), OWN)


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("tells", [False, True])
async def test_torn_out_at_any_command_around_the_puks_only_a_person_spends_a_try(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, tells: bool, side: str
) -> None:
    profile = TELLS if tells else SILENT
    readers.put(personalised(profile))
    issue(portal)
    agent.windows.answers = [(None, None)]
    assert await order(agent, portal) == "finished"
    first = next(at for at, apdu in enumerate(readers.trace) if (apdu[1], apdu[3]) == CHANGE_PUK)
    last = next(at for at, apdu in enumerate(readers.trace) if apdu[1] == 0x2C)
    readers.take()
    portal.management_keys = [FACTORY_KEY, NEW_KEY]
    for number in range(first - 1, last + 3):
        card = personalised(profile)
        lowest = watched(card)
        readers.trace.clear()

        def tear(count: int, _apdu: bytes, at: int = number) -> str | None:
            return side if count == at else None

        readers.tear = tear
        readers.put(card)
        put_back(readers, card)
        issue(portal)
        agent.windows.answers = [(None, None), (None, None)]
        code = f"{number:02d}cdefghijklmnopqrstuv"
        assert await order(agent, portal, code) == "finished", (number, portal.orders[code].undone)
        in_doubt = (readers.trace[number - 1][1], readers.trace[number - 1][3]) == CHANGE_PUK and not tells
        assert len(window_of(agent).asked) == (2 if in_doubt else 1), number
        spent = 1 if in_doubt and side == "before" else 0
        assert lowest == [profile.puk_tries - spent], number
        assert (card.pin, card.puk) == (padded(GIVEN), OWN)
        readers.tear = lambda _number, _apdu: None
        readers.take()


# --- a fresh order after one that was cut off there


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("tells", [False, True])
async def test_a_fresh_order_finishes_a_card_that_has_the_one_puk_or_the_other(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, tells: bool, changed: bool
) -> None:
    card = personalised(TELLS if tells else SILENT)
    card.puk = OWN if changed else PUK
    readers.put(card)
    portal.puk_unsure = True
    issue(portal)
    agent.windows.answers = [(None, None)] if tells else [(None, None), (None, None)]
    assert await order(agent, portal) == "finished"
    assert (card.pin, card.puk, card.puk_left) == (padded(GIVEN), OWN, card.profile.puk_tries)
    assert len(window_of(agent).asked) == (1 if tells else 2)


# --- as it should go


@pytest.mark.parametrize(
    "profile", [each for each in kinds(11) if each.changes_puk], ids=lambda profile: profile.name
)
async def test_the_portal_gives_pin_and_puk_and_the_makers_puk_is_worth_nothing_any_more(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    card = personalised(profile) if profile.chuid else card_of(profile)
    readers.put(card)
    issue(portal)
    agent.windows.answers = [(None, None)]
    assert await order(agent, portal) == "finished"
    assert (card.pin, card.puk) == (padded(GIVEN), OWN)
    assert (card.pin_left, card.puk_left) == (profile.pin_tries, profile.puk_tries)
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert receipt.puk_replaced
    assert len(window_of(agent).asked) == 1
    portal.new_puk = None
    portal.pin, portal.management_keys = b"864213", [NEW_KEY, FACTORY_KEY]
    first_encoding(portal, AUTHENTICATION, SIGNATURE, pin=PinEntry(kind="given"))
    agent.windows.answers = [(None, None)]
    assert await order(agent, portal, OTHER_CODE) == "card_puk_other"
    assert card.pin == padded(GIVEN)


async def test_a_card_that_takes_no_other_puk_keeps_the_makers_and_says_so(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(dataclasses.replace(SILENT, changes_puk=False))
    readers.put(card)
    issue(portal, steps=[CardStep.SET_PIN])
    agent.windows.answers = [(None, None)]
    assert await order(agent, portal) == "finished"
    assert (card.pin, card.puk) == (padded(GIVEN), PUK)
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert not receipt.puk_replaced

"""The orders *verify PIN*, *block card* and *change PUK* of a card in a reader: refused, torn, then as it should go."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.handlers.block_physical_card import BlockPhysicalCardHandler
from agent.handlers.change_physical_puk import ChangePhysicalPukHandler
from agent.order_ports import GoesForward
from agent.ports import UserCancelled
from protocol.errors import InlayError
from protocol.messages import (
    Account,
    Binding,
    BlockCard,
    ChangePuk,
    Confirmation,
    Order,
    Receipt,
    VerifyPin,
)
from tests.cards.independent.in_reader import kinds
from tests.cards.profiles import METADATA, PROFILES, Profile
from tests.cards.simulated import PIN, PUK
from tests.support.agent_parts import CODE, AgentParts
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import Answer
from tests.support.physical_orders import GUID, agent, instructions, order, personalised, put_back, window_of
from tests.support.simulated_readers import SimulatedReaders

__all__ = ["agent"]

CONSENT: Answer = (None, None)
NEW_PUK = b"87654321"
TELLING = next(each for each in PROFILES if METADATA in each.yubico)
VERIFY, CHANGE, RESET_RETRY = 0x20, 0x24, 0x2C


def typed(readers: SimulatedReaders) -> int:
    """How many PINs went to the card."""
    return sum(apdu[1] == VERIFY and len(apdu) > 5 for apdu in readers.trace)


def fake_order(parameters: BlockCard | ChangePuk) -> Order:
    return Order(
        iss="portal.test",
        aud="inlay",
        jti="order-1",
        iat=0,
        exp=1,
        cnf=Confirmation(jkt="A" * 43),
        nonce="A" * 43,
        origin="https://portal.test",
        account=Account(id="7", name="Alex Example", user_id="alex@example.org"),
        binding=Binding.NONE,
        resume_within=60,
        parameters=parameters,
    )


def verify(portal: FakePortal) -> None:
    portal.operation = VerifyPin(card="card-1", driver="piv", guid=GUID, label="Card 7")


def block(portal: FakePortal) -> None:
    portal.operation = BlockCard(card="card-1", driver="piv", guid=GUID, label="Card 7")


def change_puk(portal: FakePortal) -> None:
    portal.new_puk = NEW_PUK
    portal.operation = ChangePuk(card="card-1", driver="piv", guid=GUID, label="Card 7")


# --- verify PIN


async def test_a_blocked_pin_is_said_and_none_is_asked_for(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    card.pin_left = 0
    readers.put(card)
    verify(portal)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "card_pin_blocked"
    assert typed(readers) == 0


@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_torn_check_is_asked_for_again_and_never_sent_twice(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, side: str
) -> None:
    card = personalised()
    readers.put(card)
    put_back(readers, card)
    tears = [side]
    readers.tear = lambda _number, apdu: (
        tears.pop() if tears and apdu[1] == VERIFY and len(apdu) > 5 else None
    )
    verify(portal)
    agent.windows.answers = [CONSENT, (b"000000", None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    assert "may have been spent" in str(window_of(agent).asked[2].warning)
    assert typed(readers) == 2


async def test_a_wrong_pin_costs_its_try_and_the_right_one_is_told_to_the_portal(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised(TELLING)
    readers.put(card)
    verify(portal)
    agent.windows.answers = [CONSENT, (b"000000", None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    assert "is wrong" in str(window_of(agent).asked[2].warning)
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert receipt.guid == GUID
    assert card.pin_left == TELLING.pin_tries
    assert not card.pin_ok
    assert PIN not in agent.everything_written()


# --- block card


async def test_another_card_is_told_no_wrong_pin(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    other, card = personalised(guid="ab" * 16), personalised()
    readers.put(other, "Two")
    readers.put(card)
    put_back(readers, other)  # in the same reader, in the middle of it
    readers.tear = lambda _number, apdu: "after" if apdu[1] == VERIFY and len(apdu) > 5 else None
    portal.resume_within = 1
    block(portal)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "timeout"
    assert (other.pin_left, other.puk_left) == (other.profile.pin_tries, other.profile.puk_tries)
    assert card.pin_left == card.profile.pin_tries - 1


async def test_without_consent_nothing_is_sent(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = personalised()
    readers.put(card)
    block(portal)
    agent.windows.answers = [UserCancelled("consent")]
    assert await order(agent, portal) == "user_cancelled"
    assert any("can't be undone" in line for line in window_of(agent).asked[0].consequences)
    assert not readers.trace
    assert card.pin_left == card.profile.pin_tries


@pytest.mark.parametrize("profile", kinds(3), ids=lambda profile: profile.name)
async def test_pin_and_puk_are_run_down_and_a_blocked_card_is_a_success(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    card = personalised(profile)
    readers.put(card)
    block(portal)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "finished", portal.orders[CODE].undone
    assert (card.pin_left, card.puk_left) == (0, 0)
    readers.trace.clear()
    block(portal)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal, "02cdefghijklmnopqrstuv") == "finished"
    assert (typed(readers), card.pin_left, card.puk_left) == (0, 0, 0)


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("instruction", [VERIFY, RESET_RETRY])
async def test_torn_in_the_middle_it_goes_on_where_it_was(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, instruction: int, side: str
) -> None:
    card = personalised(TELLING)
    readers.put(card)
    put_back(readers, card)
    tears = [side]
    readers.tear = lambda _number, apdu: (
        tears.pop() if tears and apdu[1] == instruction and len(apdu) > 5 else None
    )
    block(portal)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "finished"
    assert (card.pin_left, card.puk_left) == (0, 0)
    spent = TELLING.pin_tries + TELLING.puk_tries + (1 if side == "before" else 0)
    assert typed(readers) + instructions(readers).count(RESET_RETRY) == spent


@pytest.mark.parametrize("operation", [BlockCard, ChangePuk])
async def test_killed_in_the_middle_the_card_is_half_done_and_afterwards_it_is_done(
    operation: type[BlockCard | ChangePuk], readers: SimulatedReaders, tmp_path: Path
) -> None:
    at = readers.card_readers(tmp_path)
    handler: GoesForward = BlockPhysicalCardHandler(at)
    step = "block card"
    if operation is ChangePuk:
        handler, step = ChangePhysicalPukHandler(at), "new puk"
    ordered = fake_order(operation(card="card-1", driver="piv", guid=GUID, label="Card 7"))
    assert await handler.receipt_after(ordered, []) is None
    with pytest.raises(InlayError) as caught:
        await handler.receipt_after(ordered, [(step, "before")])
    assert caught.value.code == "card_half_done"
    receipt = await handler.receipt_after(ordered, [(step, "before"), (step, "after")])
    assert receipt == Receipt(guid=GUID, puk_replaced=operation is ChangePuk)


# --- change PUK


@pytest.mark.parametrize(("left", "code"), [(0, "card_puk_blocked"), (3, "card_puk_other")])
async def test_a_blocked_or_other_puk_is_said(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, left: int, code: str
) -> None:
    card = personalised(TELLING)
    card.puk, card.puk_left = b"11112222", left
    readers.put(card)
    change_puk(portal)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == code
    assert instructions(readers).count(CHANGE) == (1 if left else 0)
    assert card.puk == b"11112222"


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 6))
async def test_torn_out_before_the_change_itself_nobody_is_asked_for_a_try(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, number: int, side: str
) -> None:
    card = personalised(TELLING)
    card.puk = portal.puk = b"97531864"  # of one that isn't its maker's no metadata tells
    readers.put(card)
    put_back(readers, card)
    readers.tear = lambda at, _apdu: side if at == number else None
    change_puk(portal)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "finished"
    assert [apdu[1] for apdu in readers.trace].index(CHANGE) >= number
    assert instructions(readers).count(CHANGE) == 1
    assert (card.puk, card.puk_left) == (NEW_PUK, card.profile.puk_tries)


@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_change_without_an_answer_is_found_out_with_the_person(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, side: str
) -> None:
    card = personalised(next(each for each in PROFILES if METADATA not in each.yubico and each.changes_puk))
    readers.put(card)
    put_back(readers, card)
    tears = [side]
    readers.tear = lambda _number, apdu: tears.pop() if tears and apdu[1] == CHANGE else None
    change_puk(portal)
    agent.windows.answers = [CONSENT, CONSENT]
    assert await order(agent, portal) == "finished"
    assert "nobody knows whether" in str(window_of(agent).asked[1].warning)
    assert (card.puk, card.puk_left) == (NEW_PUK, card.profile.puk_tries)


@pytest.mark.parametrize("profile", kinds(4), ids=lambda profile: profile.name)
async def test_the_card_has_the_puk_that_the_portal_keeps_or_its_old_one_where_it_takes_no_other(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, profile: Profile
) -> None:
    card = personalised(profile)
    readers.put(card)
    change_puk(portal)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "finished", portal.orders[CODE].undone
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert receipt.puk_replaced == profile.changes_puk
    assert card.puk == (NEW_PUK if profile.changes_puk else PUK)
    assert NEW_PUK not in agent.everything_written()

"""A token's own PUK at its first encoding, with SoftHSM 2: refused, without an answer, in doubt; then as it goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.ports import UserCancelled
from protocol.messages import CardStep
from tests.support import token_readers
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts, running_agent
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import order, undone, window_of
from tests.support.token_orders import NEW, certificates, encode, encode_anew, officer_may
from tests.support.token_readers import SO_PIN, TokenReaders

CONSENT = (None, None)
NEW_PUK, WRONG = b"24681357", b"11112222"
PUK_LOW = 0x100000


@pytest.fixture
async def agent(agent: AgentParts, portal: FakePortal) -> AgentParts:
    portal.new_puk = NEW_PUK
    agent.windows.answers = [(None, NEW)]
    return agent


def issue(portal: FakePortal, serial: str, **changes: Any) -> None:
    encode_anew(portal, serial, AUTHENTICATION, new_puk=True, **changes)


def replaced(portal: FakePortal, code: str = CODE) -> bool:
    receipt = portal.orders[code].receipt
    assert receipt is not None
    return receipt.puk_replaced


# --- refused


async def test_without_a_new_pin_nobody_is_asked(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    encode(portal, serial, AUTHENTICATION, new_puk=True)
    assert await order(agent, portal) == "encoding_unsupported"
    assert (agent.windows.opened, readers.looks) == ([], 0)


async def test_one_that_never_came_changes_nothing(
    agent: AgentParts, portal: FakePortal, serial: str
) -> None:
    portal.new_puk = None
    portal.puk_unsure = True
    issue(portal, serial)
    assert await order(agent, portal) == "params_invalid"
    assert (await undone(portal)).changing == 0


async def test_a_wrong_old_one_is_tried_once_and_ends_it_before_anything_is_changed(
    agent: AgentParts, portal: FakePortal, serial: str
) -> None:
    portal.puk = WRONG
    issue(portal, serial)
    assert await order(agent, portal) == "pkcs11_puk_wrong"
    assert (await undone(portal)).changing == 0
    assert officer_may(SO_PIN)


async def test_a_card_that_takes_no_other_keeps_the_one_that_it_has(
    agent: AgentParts, portal: FakePortal, serial: str
) -> None:
    portal.new_puk = b"1" * 300  # longer than any PIN of the token
    issue(portal, serial)
    assert await order(agent, portal) == "finished"
    assert not replaced(portal)
    assert officer_may(SO_PIN)


# --- without an answer


@pytest.mark.parametrize(
    ("function", "moment"),
    [
        ("C_InitToken", "after"),
        ("C_InitPIN", "crash"),
        ("C_SetPIN", "crash"),
        ("C_SetPIN", "after"),
        ("C_SetPIN", "lost"),
    ],
)
async def test_torn_at_each_command_with_a_pin_it_is_finished(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str, function: str, moment: str
) -> None:
    issue(portal, serial)
    in_doubt = function == "C_SetPIN"
    agent.windows.answers = [(None, NEW), *([CONSENT] if in_doubt else [])]
    readers.plan(function, moment)
    ending = asyncio.create_task(order(agent, portal))
    if moment == "lost":
        window = await agent.windows.first()
        await window.until_said("Put the card “Card 7” back")
        readers.put()
    assert await ending == "finished"
    assert len(window_of(agent).asked) == (2 if in_doubt else 1)
    assert replaced(portal)
    assert (officer_may(NEW_PUK), officer_may(SO_PIN)) == (True, False)
    assert portal.orders[CODE].changing == 1


async def test_who_has_no_try_spent_leaves_a_card_that_is_half_done_and_another_order_finishes_it(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    issue(portal, serial)
    agent.windows.answers = [(None, NEW), UserCancelled("a try")]
    readers.plan("C_SetPIN", "after")
    assert await order(agent, portal) == "user_cancelled"
    assert (await undone(portal)).changing == 1
    portal.puk_unsure = True
    agent.windows.answers = [(None, NEW), CONSENT]
    assert await order(agent, portal, OTHER_CODE) == "finished"
    assert (officer_may(NEW_PUK), officer_may(SO_PIN)) == (True, False)


async def test_with_a_wrong_try_spent_nobody_is_asked_to_find_out(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    issue(portal, serial)
    portal.puk_unsure = True
    readers.flags(PUK_LOW)
    assert await order(agent, portal) == "card_puk_unknown"
    assert len(window_of(agent).asked) == 1
    assert (await undone(portal)).changing == 0


@pytest.mark.parametrize("has", ["the new one", "its own"])
async def test_where_an_order_before_may_have_given_it_the_new_one_is_tried_first(
    agent: AgentParts, portal: FakePortal, serial: str, has: str
) -> None:
    issue(portal, serial)
    portal.puk_unsure = True
    if has == "the new one":
        portal.new_puk, portal.puk = SO_PIN, WRONG
    agent.windows.answers = [(None, NEW), CONSENT]
    assert await order(agent, portal) == "finished"
    assert replaced(portal)
    assert officer_may(SO_PIN if has == "the new one" else NEW_PUK)


async def test_an_agent_that_was_stopped_meanwhile_says_that_the_card_is_half_done(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str, tmp_path: Any
) -> None:
    issue(portal, serial)
    readers.plan("C_InitPIN", "pull")
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("Put the card “Card 7” back")
    async with asyncio.timeout(30):  # nothing is under way: nobody is waited for
        await agent.desk.close()
    ending.cancel()
    readers.put()
    async with running_agent(tmp_path / "home", readers) as restarted:
        await restarted.desk.resume()
        at = await undone(portal)
        assert at.undone is not None
        assert (at.undone.error, at.changing) == ("card_half_done", 1)
        portal.puk_unsure = True
        restarted.windows.answers = [(None, NEW), CONSENT]
        assert await order(restarted, portal, OTHER_CODE) == "finished"
    assert set(await certificates(NEW)) == {"9A"}
    assert officer_may(NEW_PUK)


# --- as it should be


async def test_a_blank_card_is_made_by_its_kinds_puk_and_has_its_own_in_the_end(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    readers.never_initialised()
    portal.puk_unsure = True  # it can have none yet: nobody is asked
    issue(portal, serial)
    assert await order(agent, portal) == "finished"
    assert len(window_of(agent).asked) == 1
    assert (officer_may(NEW_PUK), officer_may(SO_PIN)) == (True, False)


@pytest.mark.parametrize("steps", [[CardStep.SET_PIN], [CardStep.INITIALISE, CardStep.SET_PIN]])
async def test_the_officer_is_let_in_by_its_own_and_not_by_its_kinds(
    agent: AgentParts, portal: FakePortal, serial: str, steps: list[CardStep]
) -> None:
    issue(portal, serial, steps=steps)
    assert await order(agent, portal) == "finished"
    assert replaced(portal)
    assert (officer_may(NEW_PUK), officer_may(SO_PIN)) == (True, False)
    assert NEW_PUK not in agent.everything_written()
    token_readers.pkcs11_tool("--list-objects", pin=token_readers.PIN)  # `officer_may` has set that PIN

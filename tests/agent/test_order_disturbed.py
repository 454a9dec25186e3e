"""The order *create virtual card* with a portal that errs, is cut off or undoes, and with a second order beside it."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import pytest

from agent import order_exchange
from agent.journal import Journal
from protocol.errors import InlayError
from protocol.messages import (
    OrderState,
)
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts
from tests.support.fake_portal import FakePortal
from tests.support.order_ends import ended, nothing_left

# --- the portal


async def test_an_altered_message_ends_the_order(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.message["certificates"] = lambda token: (
        token[:-6] + ("A" if token[-6] != "A" else "B") + token[-5:]
    )
    assert await ended(agent, portal) == "message_signature_invalid"
    await nothing_left(agent, portal, "message_signature_invalid")


async def test_a_repeated_message_ends_the_order(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.message["certificates"] = lambda _token: portal.orders[CODE].outbox[1]
    assert await ended(agent, portal) == "message_wrong_sequence"
    await nothing_left(agent, portal, "message_wrong_sequence")


async def test_a_cancel_at_the_portal_is_carried_out(agent: AgentParts, portal: FakePortal) -> None:
    portal.number_given = False
    ending = agent.submit(portal)
    await (await agent.windows.first()).until("number")
    await portal.undo(portal.orders[CODE])
    with pytest.raises(InlayError) as caught:
        await ending.wait()
    assert caught.value.code == "cancelled_at_portal"
    await nothing_left(agent, portal, "cancelled_at_portal")
    assert agent.windows.opened[0].error is not None


async def test_after_the_receipt_the_portals_undo_still_counts(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.silent = {"receipt"}
    ending = agent.submit(portal)
    at = await portal.claimed(CODE)
    await at.until(lambda order: order.receipt is not None)
    await portal.undo(at, "order_undone")
    with pytest.raises(InlayError) as caught:
        await ending.wait()
    assert caught.value.code == "order_undone"
    await nothing_left(agent, portal, "order_undone")


async def test_a_silent_portal_is_given_up_in_time(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.silent = {"requests"}
    portal.resume_within = 1
    assert await ended(agent, portal) == "timeout"
    await nothing_left(agent, portal, "timeout")


async def test_a_portal_that_stays_away_is_given_up_and_told_later(
    agent: AgentParts, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_exchange, "LAST_PAUSE", 0.3)
    portal.number_given = False
    portal.resume_within = 1
    ending = agent.submit(portal)
    await (await agent.windows.first()).until("number")
    port = int(portal.portal.partition(":")[2])
    await portal.stop()
    with pytest.raises(InlayError) as caught:
        await ending.wait()
    assert caught.value.code in ("order_undone", "timeout")
    assert agent.card_files() == []
    await portal.start(port)
    at = await portal.orders[CODE].until(lambda order: order.undone is not None)
    assert portal.resumes[-1].outcome == "undone"
    assert at.state is OrderState.UNDONE


@pytest.mark.parametrize("message", ["consented", "requests", "receipt"])
@pytest.mark.parametrize("moment", ["drop_before", "drop_after"])
async def test_an_order_goes_on_over_a_new_connection(
    agent: AgentParts, portal: FakePortal, message: str, moment: str
) -> None:
    getattr(portal.faults, moment).add(message)
    assert await ended(agent, portal) is None
    assert len(portal.resumes) == 1
    assert len(agent.card_files()) == 1


async def test_a_refused_resume_ends_the_order(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.drop_before.add("requests")
    portal.faults.refuse_resume = InlayError("order_unknown")
    assert await ended(agent, portal) == "order_unknown"
    assert agent.card_files() == []


async def test_after_the_receipt_an_unsigned_refusal_changes_nothing(
    agent: AgentParts, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that opens TLS could forge it; only the portal's signed word ends an order then."""
    monkeypatch.setattr(order_exchange, "LAST_PAUSE", 0.3)
    portal.faults.drop_before.add("receipt")
    portal.faults.refuse_resume = InlayError("order_undone")
    ending = agent.submit(portal)
    await portal.connected(4)
    assert len(agent.card_files()) == 1
    portal.faults.refuse_resume = None
    await ending.wait()
    assert len(agent.card_files()) == 1


# --- one at a time


async def test_a_second_order_has_to_wait(agent: AgentParts, portal: FakePortal) -> None:
    agent.windows.answer = None
    agent.submit(portal)
    await agent.windows.first()
    with pytest.raises(InlayError) as caught:
        agent.submit(portal, OTHER_CODE)
    assert caught.value.code == "order_busy"


async def test_the_same_code_again_raises_the_window(agent: AgentParts, portal: FakePortal) -> None:
    agent.windows.answer = None
    first = agent.submit(portal)
    window = await agent.windows.first()
    await window.until("consent")
    assert agent.submit(portal) is first
    await window.until("raised")
    assert len(agent.windows.opened) == 1
    assert portal.connections == 1


@pytest.mark.parametrize("method", ["store_received", "store_sent"])
async def test_a_journal_that_fails_once_loses_no_message(
    agent: AgentParts, portal: FakePortal, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    working, failures = getattr(Journal, method), [sqlite3.OperationalError("disk I/O error")]

    def failing(journal: Journal, *arguments: object) -> object:
        if failures:
            raise failures.pop()
        return working(journal, *arguments)

    monkeypatch.setattr(Journal, method, failing)
    error = await ended(agent, portal)
    at = await portal.orders[CODE].until(lambda order: order.undone is not None or order.receipt is not None)
    if method == "store_received":
        assert error is None
        assert len(portal.resumes) == 1
        assert len(agent.card_files()) == 1
    else:
        assert error is not None
        assert at.undone is not None
        assert agent.card_files() == []


async def test_a_connection_that_ends_while_a_message_is_written_loses_none(
    agent: AgentParts, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    working, once = Journal.store_received, [True]
    loop = asyncio.get_running_loop()

    def cutting(journal: Journal, *arguments: Any) -> None:
        if once:
            once.clear()
            asyncio.run_coroutine_threadsafe(portal.cut(), loop).result()
        working(journal, *arguments)

    monkeypatch.setattr(Journal, "store_received", cutting)
    assert await ended(agent, portal) is None
    assert len(agent.card_files()) == 1

"""Claims whose answer is lost: claimed again while the person waits, undone where nobody waits any more."""

from __future__ import annotations

import asyncio

import pytest

from agent import order_desk
from agent.journal import OpenClaim
from protocol.errors import InlayError
from protocol.messages import Binding, Transport
from tests.support.agent_parts import CODE, AgentParts
from tests.support.fake_portal import FakePortal
from tests.support.order_ends import ended, nothing_left
from tests.support.processes import wait_until


def _open(agent: AgentParts) -> list[OpenClaim]:
    return agent.journal.get().open_claims()


async def _none_open(agent: AgentParts) -> None:
    await asyncio.to_thread(wait_until, lambda: _open(agent) == [], "all claims closed")


async def test_a_refused_claim_is_not_asked_again(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.claim = InlayError("code_expired", seconds=60)
    assert await ended(agent, portal) == "code_expired"
    assert portal.connections == 1
    assert _open(agent) == []


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_refused_order_is_said_until_the_portal_has_heard_it(
    agent: AgentParts, portal: FakePortal, when: str
) -> None:
    portal.binding = Binding.COMPLETION  # no page could be given its secret
    getattr(portal.faults, f"drop_{when}").add("undone")
    assert await ended(agent, portal) in ("binding_refused", "order_replayed")
    assert portal.connections == 2
    await nothing_left(agent, portal, "binding_refused")
    assert _open(agent) == []


async def test_an_order_without_a_name_is_not_spoken_of(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.order_token = lambda _order: "no.order.token"
    assert await ended(agent, portal) == "order_algorithm_refused"
    assert portal.orders[CODE].undone is None
    assert _open(agent) == []


async def test_a_portal_that_was_never_asked_is_not_asked_later(
    agent: AgentParts, portal: FakePortal
) -> None:
    await portal.stop()
    assert await ended(agent, portal) == "portal_unreachable"
    assert _open(agent) == []


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lost_answer_is_asked_for_again_and_the_order_goes_well(
    agent: AgentParts, portal: FakePortal, when: str
) -> None:
    getattr(portal.faults, f"drop_{when}").add("claim")
    assert await ended(agent, portal) is None
    assert len(agent.card_files()) == 1
    assert _open(agent) == []


async def test_a_connection_that_goes_while_the_claim_is_written_is_no_refusal(
    agent: AgentParts, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was sent yet: it is claimed on another connection, and the person notices nothing."""
    loop = asyncio.get_running_loop()
    journal = agent.journal.get()
    write = journal.open_claim

    def cut_meanwhile(claim: OpenClaim) -> None:
        write(claim)
        if portal.connections == 1:
            asyncio.run_coroutine_threadsafe(portal.cut(), loop).result(20)

    monkeypatch.setattr(journal, "open_claim", cut_meanwhile)
    assert await ended(agent, portal) is None
    assert portal.connections == 2
    assert len(agent.card_files()) == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_order_that_was_given_up_waiting_for_is_undone(
    agent: AgentParts, portal: FakePortal, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(order_desk, "_CLAIM_SECONDS", 0.0)
    getattr(portal.faults, f"drop_{when}").add("claim")
    assert await ended(agent, portal) == "portal_unreachable"
    await portal.claimed(CODE)
    await nothing_left(agent, portal, "order_interrupted")
    await _none_open(agent)


async def test_the_next_start_undoes_what_a_claim_has_begun(agent: AgentParts, portal: FakePortal) -> None:
    agent.journal.get().open_claim(OpenClaim(portal.portal, CODE, Transport.LINK, None))
    await agent.desk.resume()
    await portal.claimed(CODE)
    await nothing_left(agent, portal, "order_interrupted")
    assert agent.windows.opened == []
    await _none_open(agent)


async def test_a_claim_at_a_portal_that_is_trusted_no_more_is_forgotten(
    agent: AgentParts, portal: FakePortal
) -> None:
    agent.journal.get().open_claim(OpenClaim(portal.portal, CODE, Transport.LINK, None))
    agent.trust.remove(portal.portal)
    await agent.desk.resume()
    await _none_open(agent)
    assert portal.connections == 0

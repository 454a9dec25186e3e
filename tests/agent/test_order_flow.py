"""The order *create virtual card* from claim to end: what binds the browser, and what is there at the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from agent.journal import OrderRef
from agent.ports import UserCancelled
from agent.vsc.card import VirtualCard
from agent.vsc.store import CardStore
from protocol.errors import InlayError
from protocol.messages import (
    Binding,
    Order,
    Step,
    StorageLevel,
    Transport,
)
from tests.support.agent_parts import CODE, AgentParts, FakePage, running_agent
from tests.support.fake_order import RSA_KEYS
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import PIN
from tests.support.order_ends import ended

# --- what binds the browser


async def test_the_number_goes_to_window_and_portal_and_never_to_the_page(
    agent: AgentParts, portal: FakePortal
) -> None:
    page = FakePage(portal.origin)
    await agent.submit(portal, transport=Transport.LOOPBACK, page=page).wait()
    window, consented = agent.windows.opened[0], portal.orders[CODE].consented
    assert consented is not None
    assert window.number == consented.number
    assert window.number is not None
    assert len(window.number) == 3
    assert page.secrets == []
    assert page.end == ("finished", None)
    assert page.steps == [
        Step.CONSENT,
        Step.BINDING,
        Step.KEYS,
        Step.CERTIFICATES,
        Step.WRITING,
        Step.PROVING,
    ]


async def test_the_completion_secret_goes_to_the_page_that_brought_the_code(
    agent: AgentParts, portal: FakePortal
) -> None:
    portal.binding = Binding.COMPLETION
    page = FakePage(portal.origin)
    await agent.submit(portal, transport=Transport.LOOPBACK, page=page).wait()
    assert page.secrets == [portal.orders[CODE].order.completion]
    consented = portal.orders[CODE].consented
    assert consented is not None
    assert consented.number is None
    assert agent.windows.opened[0].number is None


async def test_a_completion_secret_without_a_page_is_refused(agent: AgentParts, portal: FakePortal) -> None:
    portal.binding = Binding.COMPLETION
    assert await ended(agent, portal) == "binding_refused"
    assert agent.windows.opened == []


async def test_no_completion_before_consent(agent: AgentParts, portal: FakePortal) -> None:
    portal.binding = Binding.COMPLETION
    agent.windows.answer = UserCancelled("consent")
    page = FakePage(portal.origin)
    with pytest.raises(InlayError):
        await agent.submit(portal, transport=Transport.LOOPBACK, page=page).wait()
    assert page.secrets == []
    assert page.end is not None
    assert page.end[0] == "undone"


async def test_a_known_device_is_not_asked_for_a_number(agent: AgentParts, portal: FakePortal) -> None:
    portal.binding = Binding.NONE
    await agent.submit(portal).wait()
    assert agent.windows.opened[0].number is None


# --- to the end


@pytest.mark.parametrize("rsa", [False, True])
async def test_a_whole_order(agent: AgentParts, portal: FakePortal, rsa: bool) -> None:
    if rsa:
        portal.keys = RSA_KEYS
    await agent.submit(portal).wait()
    window = agent.windows.opened[0]
    assert window.prompt is not None
    assert window.prompt.origin == portal.origin
    assert window.prompt.portal_name == "Test portal"
    assert "alex@example.org" in window.prompt.account
    assert window.details is not None
    assert [line.purpose for line in window.details.certificates] == [key.purpose for key in portal.keys]
    assert window.details.storage_level == "file"
    [row] = await agent.cards.overview()
    assert row["state"] == "active"
    assert row["account"] == "alex@example.org"
    assert row["card"] in agent.places.shown
    journal = agent.journal.get()
    ref = OrderRef(portal.portal, portal.orders[CODE].order.jti)
    assert journal.order(ref).settled
    steps = journal.steps(ref)
    assert steps[0] == ("make", "before")
    assert all((step, "after") in steps for step, phase in steps if phase == "before")


async def test_the_puk_goes_to_escrow_and_works(agent: AgentParts, portal: FakePortal) -> None:
    await agent.submit(portal).wait()
    requests = portal.orders[CODE].requests
    assert requests is not None
    assert requests.puk is not None
    puk = portal.escrow.decrypt(requests.puk)
    assert len(puk) == 8
    assert agent.windows.opened[0].puk is None
    await _unblocks(agent, portal, puk)


async def test_the_puk_is_shown_where_the_portal_does_not_want_it(
    agent: AgentParts, portal: FakePortal
) -> None:
    portal.parameters = {"puk": "show", "escrow_key": None}
    await agent.submit(portal).wait()
    requests = portal.orders[CODE].requests
    assert requests is not None
    assert requests.puk is None
    puk = agent.windows.opened[0].puk
    assert puk is not None
    await _unblocks(agent, portal, bytearray(puk))


async def _unblocks(agent: AgentParts, portal: FakePortal, puk: bytearray) -> None:
    store = CardStore(agent.folders.state / "cards" / "file", agent.device.secret(StorageLevel.FILE))
    card = VirtualCard.load(store, agent.cards.card_name(agent.owner(portal)))
    card.transmit(bytes.fromhex("00A404000BA00000030800001000010000"))
    reset = bytes.fromhex("002C008010") + bytes(puk) + b"new-pin1"
    assert await asyncio.to_thread(card.transmit, reset) == b"\x90\x00"


async def test_pin_and_puk_are_in_no_file_and_the_pin_is_wiped(
    agent: AgentParts, portal: FakePortal, caplog: pytest.LogCaptureFixture
) -> None:
    portal.parameters = {"puk": "show", "escrow_key": None}
    await agent.submit(portal).wait()
    window = agent.windows.opened[0]
    assert window.pin is not None
    assert bytes(window.pin) == bytes(len(PIN))
    written = agent.everything_written() + caplog.text.encode()
    assert window.puk is not None
    assert window.number is not None
    for secret in (PIN, window.puk, b"BEGIN PRIVATE KEY"):
        assert secret not in written


async def test_an_order_is_never_begun_twice_not_even_by_another_agent_process(
    agent: AgentParts, portal: FakePortal, tmp_path: Path
) -> None:
    await agent.submit(portal).wait()
    old = portal.orders.pop(CODE)
    await agent.desk.close()
    agent.journal.close()
    async with running_agent(tmp_path / "home") as again:
        portal.faults.order_token = lambda order: portal.key.sign(
            "inlay-order+jwt", _with_jti(order, old.order.jti)
        )
        assert await ended(again, portal) == "order_replayed"
        assert again.windows.opened == []


def _with_jti(order: Order, jti: str) -> Order:
    return msgspec.structs.replace(order, jti=jti)


async def test_a_code_that_had_begun_elsewhere_in_time_is_said(agent: AgentParts, portal: FakePortal) -> None:
    await agent.submit(portal).wait()
    assert await ended(agent, portal) == "order_replayed"

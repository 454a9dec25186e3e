"""The attacks of the threat model at the agent: each gets through when its defence is taken out, and not otherwise.

Cases: the attacker's link sent to the victim; a stolen code on another agent; a port squatted by another user; an
order replayed to another agent; a proxy that opens TLS and forges the portal's words.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from agent import claims
from protocol import jose, orders
from protocol.errors import InlayError
from protocol.messages import Binding, Order, OrderState, ResumeResult, Transport
from tests.support.agent_parts import CODE, AgentParts, FakePage, cheap_cards, running_agent, without_keystore
from tests.support.certificates import ThrowAwayCA
from tests.support.fake_portal import FakePortal


class Scene(NamedTuple):
    """Two machines that trust the same portal."""

    portal: FakePortal
    victim: AgentParts
    attacker: AgentParts


@pytest.fixture
async def scene(
    tmp_path: Path, https_ca: ThrowAwayCA, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    without_keystore(monkeypatch)
    cheap_cards(monkeypatch)
    async with AsyncExitStack() as stack:
        portal = await stack.enter_async_context(FakePortal(https_ca))
        victim = await stack.enter_async_context(running_agent(tmp_path / "victim"))
        attacker = await stack.enter_async_context(running_agent(tmp_path / "attacker"))
        for parts in (victim, attacker):
            parts.trust_portal(portal)
        yield Scene(portal, victim, attacker)


# --- 1. the attacker begins an order in his session and sends the victim its link


async def test_the_attackers_link_stops_at_the_number(scene: Scene) -> None:
    """Nothing is made before the number is typed into the page that began, and that page isn't the victim's."""
    scene.portal.number_given = False
    ending = scene.victim.submit(scene.portal)
    window = await scene.victim.windows.first()
    await window.until("number")
    prompt = window.prompt
    assert prompt is not None
    assert "alex@example.org" in prompt.account  # whose card it would be is said
    assert scene.victim.card_files() == []
    await scene.portal.undo(scene.portal.orders[CODE], "number_wrong")
    with pytest.raises(InlayError) as caught:
        await ending.wait()
    assert caught.value.code == "number_wrong"
    assert scene.victim.card_files() == []


async def test_without_the_number_the_attackers_link_gets_through(scene: Scene) -> None:
    scene.portal.binding = Binding.NONE
    await scene.victim.submit(scene.portal).wait()
    assert len(scene.victim.card_files()) == 1


# --- 2. a stolen code on another agent


async def test_a_stolen_code_is_worth_nothing_after_its_use(scene: Scene) -> None:
    await scene.victim.submit(scene.portal).wait()
    with pytest.raises(InlayError) as caught:
        await scene.attacker.submit(scene.portal).wait()
    assert caught.value.code == "code_used"
    assert scene.attacker.card_files() == []


async def test_a_stolen_code_used_first_gets_no_completion_secret(scene: Scene) -> None:
    """Over loopback the secret goes to the page that brought the code: the thief's machine has no such page."""
    scene.portal.binding = Binding.COMPLETION
    with pytest.raises(InlayError) as caught:
        await scene.attacker.submit(scene.portal).wait()
    assert caught.value.code == "binding_refused"
    page = FakePage(scene.portal.origin)
    with pytest.raises(InlayError):
        await scene.victim.submit(scene.portal, transport=Transport.LOOPBACK, page=page).wait()
    assert page.secrets == []


async def test_without_the_binding_check_the_thief_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "check_binding", lambda _order, _page: None)
    scene.portal.binding = Binding.COMPLETION
    await scene.attacker.submit(scene.portal).wait()
    assert len(scene.attacker.card_files()) == 1


# --- 3. a port squatted by another user: whoever sits there holds a code, and no device key


async def test_a_squatters_code_needs_a_claim_by_an_agent_that_the_order_names(scene: Scene) -> None:
    """The squatter passes the code on to an agent of his own: the page that brought it is not his."""
    scene.portal.faults.order = _page_must_be("https://another.test")
    page = FakePage("https://another.test")
    with pytest.raises(InlayError) as caught:
        await scene.attacker.submit(scene.portal, transport=Transport.LOOPBACK, page=page).wait()
    assert caught.value.code == "order_wrong_origin"


def _page_must_be(origin: str) -> Callable[[Order], Order]:
    return lambda order: msgspec.structs.replace(order, origin=origin)


# --- 4. an order replayed to another agent


async def _recorded(scene: Scene) -> str:
    """The order that the victim's agent got."""
    await scene.victim.submit(scene.portal).wait()
    return scene.portal.orders.pop(CODE).token


async def test_an_order_copied_to_another_agent_is_worthless(scene: Scene) -> None:
    token = await _recorded(scene)
    scene.portal.faults.order_token = lambda _order: token
    with pytest.raises(InlayError) as caught:
        await scene.attacker.submit(scene.portal).wait()
    assert caught.value.code == "order_wrong_device"
    assert scene.attacker.card_files() == []


async def test_an_order_replayed_to_its_own_agent_is_worthless(scene: Scene) -> None:
    token = await _recorded(scene)
    before = scene.victim.card_files()
    scene.portal.faults.order_token = lambda _order: token
    with pytest.raises(InlayError) as caught:
        await scene.victim.submit(scene.portal).wait()
    assert caught.value.code == "order_wrong_nonce"
    assert scene.victim.card_files() == before


async def test_without_the_checks_the_copied_order_gets_through(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await _recorded(scene)
    scene.portal.faults.order_token = lambda _order: token
    monkeypatch.setattr(orders, "_check_order", lambda _order, _expected: None)
    ending = scene.attacker.submit(scene.portal)
    window = await scene.attacker.windows.first()
    await window.until("number")  # consent was asked for another device's order
    await scene.attacker.desk.close()
    with pytest.raises(InlayError):
        await ending.wait()


async def test_without_the_nonce_the_journal_still_knows_the_order(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await _recorded(scene)
    scene.portal.faults.order_token = lambda _order: token
    monkeypatch.setattr(orders, "_check_order", lambda _order, _expected: None)
    with pytest.raises(InlayError) as caught:
        await scene.victim.submit(scene.portal).wait()
    assert caught.value.code == "order_replayed"


# --- 5. whoever opens TLS: words that the portal did not sign


async def test_a_forged_order_needs_the_portals_key(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    forger = jose.SigningKey.generate()
    scene.portal.faults.order_token = lambda order: forger.sign(jose.ORDER, order)
    with pytest.raises(InlayError) as caught:
        await scene.victim.submit(scene.portal).wait()
    assert caught.value.code == "order_signature_invalid"

    def believe(token: str, typ: str, _keys: object, type_: type[Order]) -> Order:
        return jose.unverified_payload(token, typ, type_)

    monkeypatch.setattr(jose, "verify", believe)
    scene.portal.orders.clear()
    await scene.victim.submit(scene.portal).wait()
    assert len(scene.victim.card_files()) == 1


async def test_an_unsigned_undone_does_not_destroy_a_card_whose_receipt_is_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.order_exchange.LAST_PAUSE", 0.2)
    scene.portal.faults.drop_before.add("receipt")
    honest = scene.portal._resume

    def forged(token: str, context: dict[str, object]) -> tuple[ResumeResult, object]:
        result, _ = honest(token, context)
        return msgspec.structs.replace(result, state=OrderState.UNDONE), None

    monkeypatch.setattr(scene.portal, "_resume", forged)
    ending = scene.victim.submit(scene.portal)
    await asyncio.wait_for(scene.portal.connected(2), 20)
    await ending.wait()
    assert len(scene.victim.card_files()) == 1

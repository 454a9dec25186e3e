"""Attacks on the bond between a browser session and a machine: real portal, real agents (security rule 4a).

Each attack is one function. It fails; and it gets through when exactly the defence that its test names is taken out.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession, WSMsgType, web

from portal.processes import binding, claims
from portal.processes.claims import Claims
from protocol import jose
from protocol.errors import InlayError
from protocol.loopback_ports import PATH, SUBPROTOCOL
from protocol.messages import (
    Binding,
    Claim,
    ClaimParams,
    ClaimResult,
    CompletionParams,
    HelloParams,
    LoopbackHelloResult,
    Message,
    OpenParams,
    OpenResult,
    Transport,
)
from protocol.orders import Stage as OrderStage
from protocol.session import Notification, Request, Role, Session
from tests.support.attack_stage import Stage, WaitingPage, outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from portal.store.tables import Order
    from portal.views import ProcessView
    from portal.views import Session as LoginSession
    from tests.support.software_agent import SoftwareAgent


def binds_by(monkeypatch: pytest.MonkeyPatch, always: Binding) -> None:
    """Take out the rule that a device's first use binds by the number."""

    async def rule(_self: Claims, _tx: object, order: Order, _transport: Transport, _device: str) -> Binding:
        return always

    monkeypatch.setattr(Claims, "_binding", rule)


# --- the attacker begins an order in his own session and sends the victim its link


async def _send_link_to_victim(stage: Stage) -> int:
    """Mallory's order, Vera's machine, and Vera agrees without reading. How many active cards Mallory has then."""
    mallory = await stage.kit.person("mallory@example.org")
    view, code = await stage.kit.at_open(mallory)
    ending = stage.open_link(stage.victim, code.link)
    window = await stage.victim.windows.first()
    assert window.prompt is not None
    assert "mallory@example.org" in window.prompt.account  # a victim who reads is told
    guessing = asyncio.create_task(_guess(stage, mallory, view))
    await outcome(ending)
    await guessing
    return await stage.active_cards(mallory)


async def _guess(stage: Stage, session: LoginSession, view: ProcessView) -> None:
    """Mallory can't see Vera's screen: three guesses, all wrong."""
    async for event in stage.kit.services.events(session, view.id):
        if event.number_wanted:
            number = stage.victim.windows.opened[0].number
            guess = "000" if number != "000" else "001"
            with contextlib.suppress(InlayError):
                await stage.kit.services.enter_number(session, view.id, guess)


async def test_an_attackers_link_sent_to_the_victim_fails(stage: Stage) -> None:
    assert await _send_link_to_victim(stage) == 0
    assert stage.victim.card_files() == []
    assert await stage.kit.valid_at_ca() == []


async def test_an_attackers_link_gets_through_without_the_number(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    binds_by(monkeypatch, Binding.NONE)
    assert await _send_link_to_victim(stage) == 1
    assert len(stage.victim.card_files()) == 1


# --- a stolen code used on another agent


async def _steal_code(stage: Stage) -> int:
    """Vera's code is claimed by the thief's agent before hers. How many of her certificates the thief gets."""
    vera = await stage.kit.person("vera@example.org")
    _, code = await stage.kit.at_open(vera)
    ending = stage.open_link(stage.other, code.link)
    thief = await stage.other.windows.first()
    waiting = asyncio.create_task(thief.until("number"))
    ended = asyncio.create_task(outcome(ending))
    await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
    assert await outcome(stage.open_link(stage.victim, code.link)) in ("code_used", "order_undone")
    waiting.cancel()
    ended.cancel()
    return len(await stage.kit.valid_at_ca())


async def test_a_stolen_code_on_another_agent_fails(stage: Stage) -> None:
    assert await _steal_code(stage) == 0
    assert stage.other.card_files() == []


async def test_a_stolen_code_gets_through_without_the_number(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    binds_by(monkeypatch, Binding.NONE)
    assert await _steal_code(stage) == 3


# --- a code claimed twice in a race


async def _race(stage: Stage) -> int:
    """Six devices claim one code at once. How many of them are answered with an order."""
    vera = await stage.kit.person("vera@example.org")
    _, code = await stage.kit.at_open(vera)
    racers = [await stage.kit.agent() for _ in range(6)]

    async def claim(racer: SoftwareAgent) -> Message:
        token = racer.device.sign(jose.CLAIM, racer.claim_message(code.code))
        return await racer.call("claim", ClaimParams(claim=token))

    answers = await asyncio.gather(*(claim(racer) for racer in racers), return_exceptions=True)
    return sum(isinstance(answer, ClaimResult) for answer in answers)


async def test_a_code_claimed_twice_in_a_race_fails(stage: Stage) -> None:
    assert await _race(stage) == 1


async def test_a_code_claimed_twice_gets_through_without_the_mark_of_its_first_device(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_check_first_device", lambda _order, _device: None)
    assert await _race(stage) == 6


# --- the agent's port squatted by another user of the machine


class Squatter:
    """Sits on the agent's port, and does to the page what a good agent would do, with a device key of its own."""

    def __init__(self, device: SoftwareAgent) -> None:
        self.device = device
        self.done = asyncio.Event()

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=[SUBPROTOCOL])
        await socket.prepare(request)
        session = Session(Role.LOOPBACK_AGENT)
        async for item in socket:
            assert item.type is WSMsgType.TEXT
            event = session.receive(item.data)
            assert isinstance(event, Request)
            if isinstance(event.params, HelloParams):
                answer: Message = LoopbackHelloResult(version=1, versions=[1])
                await socket.send_str(session.respond(event.id, answer).decode())
            elif isinstance(event.params, OpenParams):
                await socket.send_str(session.respond(event.id, OpenResult(accepted=True)).decode())
                await self._misuse(socket, session, event.params.code)
        return socket

    async def _misuse(self, socket: web.WebSocketResponse, session: Session, code: str) -> None:
        device = self.device
        await device.claim(code, Transport.LOOPBACK, device.origin)
        assert device.order is not None
        number = "417" if device.order.binding is Binding.NUMBER else None
        await device.consent(number=number)
        if device.order.completion is not None:
            told = CompletionParams(completion=device.order.completion)
            await socket.send_str(session.notify("completion", told).decode())
        with contextlib.suppress(InlayError):
            if device.order.completion is None:
                await self._force(device)
            await device.complete()
        self.done.set()
        await socket.close()

    async def _force(self, device: SoftwareAgent) -> None:
        """Without a secret to return: act as if the portal had said *proceed*."""
        assert device.exchange is not None
        assert device.order is not None
        device.exchange.position = device.exchange.position._replace(stage=OrderStage.PROCEEDING)
        await device.say(device.card.requests(device.order))


@asynccontextmanager
async def squatted_port(squatter: Squatter) -> AsyncIterator[int]:
    """A port of this machine with the squatter on it."""
    application = web.Application()
    application.router.add_get(PATH, squatter.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _squat(stage: Stage) -> int:
    """The page finds the squatter where the agent should be. How many active cards he has in Vera's name."""
    vera = await stage.kit.person("vera@example.org")
    view, code = await stage.kit.at_open(vera)
    squatter = Squatter(await stage.kit.agent())
    async with squatted_port(squatter) as port:
        await _page(stage, vera, view, code.code, port)
        async with asyncio.timeout(20):
            await squatter.done.wait()
    return await stage.active_cards(vera)


async def _page(stage: Stage, session: LoginSession, view: ProcessView, code: str, port: int) -> None:
    """What the page's client does: hand the code over, and the completion secret to the portal."""
    frames = Session(Role.LOOPBACK_PAGE)
    address = f"http://127.0.0.1:{port}{PATH}"
    async with ClientSession() as client, client.ws_connect(address, protocols=[SUBPROTOCOL]) as socket:
        await socket.send_str(frames.call("hello", HelloParams(versions=[1]))[1].decode())
        async for item in socket:
            event = frames.receive(item.data)
            if isinstance(event, Notification) and isinstance(event.params, CompletionParams):
                await stage.kit.services.complete(session, view.id, event.params.completion)
            elif not isinstance(event, Notification) and code:
                opening = OpenParams(portal=stage.proxy.portal, code=code)
                await socket.send_str(frames.call("open", opening)[1].decode())
                code = ""


async def test_a_port_squatted_by_another_user_fails(stage: Stage) -> None:
    assert await _squat(stage) == 0
    assert await stage.kit.valid_at_ca() == []


async def test_a_squatted_port_gets_through_without_the_number_on_a_first_use(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ADR 2: a binding that goes by the transport alone trusts whoever answers on the port."""
    binds_by(monkeypatch, Binding.COMPLETION)
    assert await _squat(stage) == 1


# --- the completion secret from another session


async def _complete_elsewhere(stage: Stage) -> str:
    """An order of Vera's own machine, its secret handed in by another log-in session. How the order ends."""
    vera = await stage.kit.person("vera@example.org")
    await stage.get_card(vera, stage.victim)
    view, code = await stage.kit.at_open(vera)
    page = WaitingPage(f"https://{stage.proxy.portal}")
    ending = stage.hand_over(stage.victim, code.code, page)
    secret = await page.secret()
    elsewhere = await stage.kit.login("vera@example.org")
    try:
        await stage.kit.services.complete(elsewhere, view.id, secret)
    except InlayError as refusal:
        return refusal.code
    return await outcome(ending)


async def test_the_completion_secret_from_another_session_fails(stage: Stage) -> None:
    assert await _complete_elsewhere(stage) == "binding_refused"


async def test_the_completion_secret_gets_through_without_the_sessions_check(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binding, "_check_session", lambda _order, _session: None)
    assert await _complete_elsewhere(stage) == "finished"


# --- a claim replayed on another connection


async def _replay_claim(stage: Stage) -> bool:
    """A claim that somebody recorded is sent again on his own connection. Whether the portal answers it."""
    vera = await stage.kit.person("vera@example.org")
    _, code = await stage.kit.at_open(vera)
    device, thief = await stage.kit.agent(), await stage.kit.agent()
    recorded = device.device.sign(jose.CLAIM, device.claim_message(code.code))
    try:
        return isinstance(await thief.call("claim", ClaimParams(claim=recorded)), ClaimResult)
    except InlayError:
        return False


async def test_a_claim_replayed_on_another_connection_fails(stage: Stage) -> None:
    assert not await _replay_claim(stage)


async def test_a_replayed_claim_gets_through_without_the_portals_nonce(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = Claims._verified

    def without_nonce(self: Claims, token: str, _portal_nonce: str) -> Claim:
        return verified(self, token, jose.unverified_payload(token, jose.CLAIM, Claim).portal_nonce)

    monkeypatch.setattr(Claims, "_verified", without_nonce)
    assert await _replay_claim(stage)

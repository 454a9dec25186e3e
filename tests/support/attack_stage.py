"""The real portal and real agents with a proxy between them that opens TLS: what attacks are played on.

The portal's origin leads to the proxy, whose certificate the agents accept: the worst network there is. Passing
everything on unchanged it is no attacker at all, and whole orders run through it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import ClientSession, WSMsgType, web

from agent.order_ports import Submission
from agent.ports import UserEnvironment
from portal.model.states import VirtualSmartCardState
from protocol import link
from protocol.errors import InlayError
from protocol.messages import Transport
from tests.support.agent_parts import FakePage, running_agent
from tests.support.portal_kit import P256, running_portal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import ClientWebSocketResponse

    from agent.order_ports import Ending, Page
    from portal.views import ProcessView, Session
    from tests.support.agent_parts import AgentParts, HasReaders
    from tests.support.certificates import ThrowAwayCA
    from tests.support.portal_kit import Kit

    _Socket = web.WebSocketResponse | ClientWebSocketResponse

Frame = dict[str, Any]
WAIT_SECONDS = 20.0


class Passed(NamedTuple):
    """What becomes of a frame.

    Attributes:
        on: frames that go on to the other side.
        back: frames that go back to where it came from.
    """

    on: list[Frame]
    back: list[Frame] = []  # noqa: RUF012 # never changed


Change = Callable[[Frame], Awaitable[Passed]]


class WaitingPage(FakePage):
    """A page whose completion secret can be waited for."""

    def __init__(self, origin: str) -> None:
        super().__init__(origin)
        self._came = asyncio.Event()

    def completion(self, secret: str) -> None:
        super().completion(secret)
        self._came.set()

    async def secret(self) -> str:
        """The secret, once it comes."""
        async with asyncio.timeout(WAIT_SECONDS):
            await self._came.wait()
        return self.secrets[0]


class TlsProxy:
    """Carries the channel; every frame of either side passes through its hands.

    Attributes:
        to_portal: frames of an agent in; out what the portal gets, and what the agent is answered at once.
        to_agent: frames of the portal in; out what the agent gets, and what the portal is answered at once.
        portal: the portal's id: this proxy's address.
        tls: who vouches for that.
    """

    def __init__(self, tls: ThrowAwayCA) -> None:
        self.to_portal: Change = _unchanged
        self.to_agent: Change = _unchanged
        self.tls = tls
        self._behind = ""
        self._near: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.portal = f"localhost:{self._socket.getsockname()[1]}"

    async def start(self, behind: str) -> None:
        """Listen; what comes goes on to the portal at this http address."""
        self._behind = behind
        application = web.Application()
        application.router.add_get("/inlay/channel", self._carry)
        self._runner = web.AppRunner(application, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket, ssl_context=self.tls.server_context()).start()

    async def cut(self) -> None:
        """End every connection, and carry the next."""
        for near in list(self._near):
            await near.close()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _carry(self, request: web.Request) -> web.WebSocketResponse:
        near = web.WebSocketResponse(protocols=("inlay.v1",))
        await near.prepare(request)
        self._near.add(near)
        async with ClientSession() as client, client.ws_connect(f"{self._behind}/inlay/channel") as far:
            back = asyncio.create_task(_pass_on(far, near, self, "to_agent"))
            try:
                await _pass_on(near, far, self, "to_portal")
            finally:
                self._near.discard(near)
                back.cancel()
                await asyncio.gather(back, return_exceptions=True)
        return near


@dataclass
class Stage:
    """Everything that takes part.

    Attributes:
        kit: the portal, and people who use it.
        proxy: the network.
        victim: an agent that trusts the portal.
        other: another machine's agent that trusts it, too.
    """

    kit: Kit
    proxy: TlsProxy
    victim: AgentParts
    other: AgentParts

    def open_link(self, agent: AgentParts, text: str) -> Ending:
        """The person at that agent clicks a link, and agrees to what the window says."""
        parsed = link.parse(text)
        environment = UserEnvironment({"DISPLAY": ":9"})
        return agent.desk.submit(Submission(parsed.portal, parsed.code, Transport.LINK, environment))

    def hand_over(self, agent: AgentParts, code: str, page: Page) -> Ending:
        """A page hands a code to that agent over loopback."""
        environment = UserEnvironment({"DISPLAY": ":9"})
        return agent.desk.submit(Submission(self.proxy.portal, code, Transport.LOOPBACK, environment, page))

    async def get_card(self, session: Session, agent: AgentParts) -> ProcessView:
        """A person gets a virtual card in peace, the number read from the window and typed into the page."""
        view, code = await self.kit.at_open(session)
        ending = self.open_link(agent, code.link)
        await self.type_number(session, view, agent)
        await ending.wait()
        view = await self.kit.services.process(session, view.id)
        return await self.kit.services.next(session, view.id, view.version)

    async def type_number(self, session: Session, view: ProcessView, agent: AgentParts) -> None:
        """The person types what that agent's window shows, if it asks for it."""
        window = await agent.windows.first()
        await window.until("number")
        assert window.number is not None
        await self.kit.bind(session, view.id, window.number)

    async def active_cards(self, session: Session) -> int:
        """How many cards this account has that are active."""
        return sum(
            card.state is VirtualSmartCardState.ACTIVE for card in await self.kit.services.cards(session)
        )


async def outcome(ending: Ending) -> str:
    """How a submission ended: ``finished``, or the code of its error."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await ending.wait()
    except InlayError as error:
        return error.code
    return "finished"


async def asked_or_ended(agent: AgentParts, ending: Ending) -> str:
    """``asked`` once a window asks for consent, else how the submission ended."""
    asked = asyncio.create_task(agent.windows.first())
    ended = asyncio.create_task(outcome(ending))
    done, _ = await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if asked in done:
        ended.cancel()
        return "asked"
    return await ended


def message_type(frame: Frame) -> str:
    """The type of the order's message that a frame carries; empty when it carries none."""
    if frame.get("method") != "message":
        return ""
    return str(payload(frame["params"]["message"])["type"])


def payload(token: str) -> dict[str, Any]:
    """What a token says; nobody who opens TLS needs a key to read it."""
    text = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return decoded


@asynccontextmanager
async def running_stage(
    folder: Path, tls: ThrowAwayCA, readers: HasReaders | None = None, **configured: Any
) -> AsyncIterator[Stage]:
    """Portal, proxy and two agents, running; the first one's readers are these, where there are any.

    Args:
        folder: of them all.
        tls: for the proxy.
        readers: of the first agent.
        configured: of the portal.
    """
    async with AsyncExitStack() as stack:
        proxy = TlsProxy(tls)
        kit = await stack.enter_async_context(
            running_portal(folder, origin=f"https://{proxy.portal}", **configured)
        )
        await kit.set_options(StorageLevels=["keystore", "file"], **P256)
        await proxy.start(str(kit.server.make_url("/")).rstrip("/"))
        stack.push_async_callback(proxy.stop)
        agents = []
        for name in ("victim", "other"):
            own = readers if name == "victim" else None
            agent = await stack.enter_async_context(running_agent(folder / name, own))
            root = kit.portal.keys.root().public
            agent.trust.add(proxy.portal, "Example portal", root, tls.ca_file.read_text())
            agents.append(agent)
        yield Stage(kit, proxy, *agents)


async def _unchanged(frame: Frame) -> Passed:
    return Passed([frame])


async def _pass_on(source: _Socket, target: _Socket, proxy: TlsProxy, direction: str) -> None:
    async for item in source:
        if item.type is not WSMsgType.TEXT:
            break
        change: Change = getattr(proxy, direction)
        passed = await change(json.loads(item.data))
        with contextlib.suppress(ConnectionError):
            for frame in passed.on:
                await target.send_str(json.dumps(frame))
            for frame in passed.back:
                await source.send_str(json.dumps(frame))
    await target.close()

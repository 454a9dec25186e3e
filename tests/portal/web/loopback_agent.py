"""The agent's end of the loopback socket, for pages in a real browser: does what the test says."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import WSMsgType, web

from protocol.loopback_ports import PATH, PORTS, SUBPROTOCOL
from protocol.messages import (
    CompletionParams,
    EndedParams,
    LoopbackHelloResult,
    Message,
    OpenParams,
    OpenResult,
    ProgressParams,
    Step,
)
from protocol.session import Request, Role, Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class LoopbackAgent:
    """Listens on the second of the protocol's ports, so that a page has to look for it.

    Attributes:
        origins: of the connections made.
        opened: the codes handed over.
    """

    def __init__(self) -> None:
        self.origins: list[str | None] = []
        self.opened: asyncio.Queue[OpenParams] = asyncio.Queue()
        self._last: tuple[web.WebSocketResponse, Session] | None = None

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """One connection."""
        self.origins.append(request.headers.get("Origin"))
        socket = web.WebSocketResponse(protocols=[SUBPROTOCOL])
        await socket.prepare(request)
        session = Session(Role.LOOPBACK_AGENT)
        async for message in socket:
            assert message.type is WSMsgType.TEXT
            event = session.receive(message.data)
            assert isinstance(event, Request)
            if isinstance(event.params, OpenParams):
                self._last = (socket, session)
                await socket.send_str(session.respond(event.id, OpenResult(accepted=True)).decode())
                self.opened.put_nowait(event.params)
            else:
                answer = LoopbackHelloResult(version=1, versions=[1])
                await socket.send_str(session.respond(event.id, answer).decode())
        return socket

    async def progress(self, step: Step) -> None:
        """Tell the page a step."""
        await self._notify("progress", ProgressParams(step=step))

    async def complete(self, secret: str) -> None:
        """Hand the completion secret to the page."""
        await self._notify("completion", CompletionParams(completion=secret))

    async def finish(self) -> None:
        """Tell the page that it is done."""
        await self._notify("ended", EndedParams(outcome="finished"))

    async def _notify(self, method: str, params: Message) -> None:
        assert self._last is not None
        socket, session = self._last
        await socket.send_str(session.notify(method, params).decode())


@asynccontextmanager
async def loopback_agent() -> AsyncIterator[LoopbackAgent]:
    """An agent, listening."""
    agent = LoopbackAgent()
    app = web.Application()
    app.router.add_get(PATH, agent.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", PORTS[1]).start()
    try:
        yield agent
    finally:
        await runner.cleanup()

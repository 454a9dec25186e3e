"""One page on the loopback socket: strict frames in, what becomes of its code out.

The completion secret of an order goes out on the connection that brought its code, and on no other: each
connection is the `agent.order_ports.Page` of the one code that it may hand over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final, Literal, cast

from aiohttp import ClientConnectionResetError, WSCloseCode, WSMsgType

from agent.errors import as_inlay_error, error_data
from agent.order_ports import PageRequest
from protocol.errors import InlayError
from protocol.messages import (
    CompletionParams,
    EndedParams,
    KeyCount,
    Message,
    ProgressParams,
    ReadersParams,
    Step,
)
from protocol.session import Request, Role, Session

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from typing import Any

    from aiohttp.web import WebSocketResponse

    from agent.environment import LastEnvironment
    from agent.handlers.registry import PageHandler
    from agent.order_ports import Services
    from agent.rates import RateLimit

_LOG = logging.getLogger(__name__)

FIRST_FRAME_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 120.0
"""How long a page that has not handed over a code may say nothing."""
_MAX_UNSENT: Final = 64


class PageConnection:
    """See the module."""

    def __init__(
        self,
        socket: WebSocketResponse,
        origin: str,
        services: Services,
        handlers: Mapping[str, PageHandler],
        environment: LastEnvironment,
        opens: RateLimit,
    ) -> None:
        """Take over a WebSocket whose origin was checked."""
        self.origin = origin
        self._socket = socket
        self._services = services
        self._handlers = handlers
        self._environment = environment
        self._opens = opens
        self._session = Session(Role.LOOPBACK_AGENT)
        self._unsent: asyncio.Queue[bytes | None] = asyncio.Queue(_MAX_UNSENT)
        self._waits_for_end = False
        self._following: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until either side ends it."""
        writer = asyncio.create_task(self._write())
        try:
            await self._read()
        finally:
            await self._follow_no_more()
            self._session.close()
            self._put(None)
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await writer
            writer.cancel()
            await self._socket.close()

    async def close(self) -> None:
        """The agent ends: say so to the page."""
        await self._socket.close(code=WSCloseCode.GOING_AWAY)

    # --- what becomes of the code (agent.order_ports.Page)

    def progress(self, step: Step, key: KeyCount | None = None) -> None:
        """Tell the page of a step, and which of the keys is made now."""
        self._notify("progress", ProgressParams(step=step, key=key))

    def completion(self, secret: str) -> None:
        """Hand the page the completion secret."""
        self._notify("completion", CompletionParams(completion=secret))

    def ended(self, outcome: str, error: InlayError | None) -> None:
        """Tell the page the end, and of the error what a page may know; then close."""
        known = None if error is None else error
        if known is not None and not known.cause.page:
            known = InlayError("internal")
        ended = EndedParams(
            outcome=cast(Literal["finished", "undone", "refused"], outcome),
            error=None if known is None else error_data(known),
        )
        self._notify("ended", ended)
        self._put(None)

    # --- what comes and goes at this machine (agent.order_ports.Page)

    def readers(self, shown: ReadersParams) -> None:
        """Tell the page how the readers stand."""
        self._notify("readers", shown)

    def follow(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what tells this page something, until it has gone; ends what it followed before."""
        if self._following is not None:
            self._following.cancel()
        self._following = asyncio.create_task(work)
        self._following.add_done_callback(self._followed)

    def _followed(self, task: asyncio.Task[None]) -> None:
        """There is nothing more to tell: a page without an order has to come again."""
        if not task.cancelled() and not self._waits_for_end:
            self._put(None)

    async def _follow_no_more(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait({self._following})

    # --- frames

    async def _read(self) -> None:
        first = True
        while not self._socket.closed:
            try:
                frame = await self._socket.receive(timeout=FIRST_FRAME_SECONDS if first else self._patience())
            except TimeoutError:
                return
            if frame.type is not WSMsgType.TEXT:
                return
            first = False
            if not await self._take(frame.data):
                return

    def _patience(self) -> float | None:
        """How long the page may say nothing: as long as it likes while there is something to tell it."""
        follows = self._following is not None and not self._following.done()
        return None if self._waits_for_end or follows else IDLE_SECONDS

    async def _take(self, data: str) -> bool:
        """Answer one frame; False after a failure: the first one closes."""
        id_: int | None = None
        try:
            event = self._session.receive(data)
            if not isinstance(event, Request):
                return False
            id_ = event.id
            result = await self._perform(event)
        except Exception as cause:
            error = as_inlay_error(cause)
            _LOG.info("a page's frame was refused: %s", error.code)
            told = error if error.cause.page else InlayError("internal")
            self._put(self._session.refuse(id_, told))
            return False
        self._put(self._session.respond(event.id, result))
        return True

    async def _perform(self, event: Request) -> Message:
        if event.method == "open":
            if not self._opens.allow(self.origin):
                raise InlayError("rate_limited")
            self._waits_for_end = True
        request = PageRequest(event.params, self, self._environment.current())
        return await self._handlers[event.method](self._services, request)

    def _notify(self, method: str, params: Message) -> None:
        if not self._socket.closed:
            self._put(self._session.notify(method, params))

    def _put(self, frame: bytes | None) -> None:
        """Queue a frame; None is the last. A page that doesn't read loses the connection, not the order."""
        try:
            self._unsent.put_nowait(frame)
        except asyncio.QueueFull:
            _LOG.warning("a page doesn't read: its connection is closed")
            while not self._unsent.empty():
                self._unsent.get_nowait()
            self._unsent.put_nowait(None)

    async def _write(self) -> None:
        while (frame := await self._unsent.get()) is not None:
            try:
                await self._socket.send_str(frame.decode())
            except (ConnectionError, ClientConnectionResetError):
                return
        await self._socket.close()

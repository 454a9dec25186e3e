"""``GET /processes/ID/events``: where the order stands, as server-sent events, until it ends."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from portal.web.guard import require_session
from portal.web.keys import CODES, SERVICES, STREAMS
from protocol import codec
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from protocol.messages import PageEvent

KEEP_ALIVE_SECONDS: Final = 20
"""Proxies end a connection that is silent for longer (commonly 60 s)."""
_MOST_PER_SESSION: Final = 8
_LOG: Final = logging.getLogger(__name__)
_END: Final = b"event: end\ndata: {}\n\n"


class Streams:
    """The open event streams: bounded for each session, ended when the portal stops."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()
        self._open: Counter[str] = Counter()

    @contextmanager
    def admit(self, session_id: str) -> Iterator[None]:
        """Count a stream in.

        Raises:
            InlayError: ``rate_limited``: this session has too many.
        """
        if self._open[session_id] >= _MOST_PER_SESSION:
            raise InlayError("rate_limited")
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        self._open[session_id] += 1
        try:
            yield
        finally:
            self._open[session_id] -= 1
            if not self._open[session_id]:
                del self._open[session_id]
            if task is not None:
                self._tasks.discard(task)

    async def close(self, _app: web.Application) -> None:
        """Signal ``on_shutdown``: end them all; browsers connect again by themselves."""
        for task in tuple(self._tasks):
            task.cancel()


async def get_events(request: web.Request) -> web.StreamResponse:
    """Stream the events of a process's order."""
    session = await require_session(request)
    process_id = request.match_info["id"]
    events = request.app[SERVICES].events(session, process_id)
    with request.app[STREAMS].admit(session.id):
        # The first event before the answer begins: what is refused is refused with a status.
        first = await anext(events, None)
        if first is not None and first.state != "waiting":
            request.app[CODES].forget(process_id)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        try:
            if first is not None:
                await response.write(_event(first))
                await _forward(events, response)
            await response.write(_END)
            await response.write_eof()
        except ConnectionResetError:
            _LOG.debug("an event stream's browser has gone")
    return response


async def _forward(events: AsyncIterator[PageEvent], response: web.StreamResponse) -> None:
    """Write events as they come, and a comment now and then so that the connection isn't taken for dead."""
    pending = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait({pending}, timeout=KEEP_ALIVE_SECONDS)
            if not done:
                await response.write(b":\n\n")
                continue
            event = pending.result()
            if event is None:
                return
            await response.write(_event(event))
            pending = asyncio.ensure_future(anext(events, None))
    finally:
        pending.cancel()


def _event(event: PageEvent) -> bytes:
    return b"event: order\ndata: " + codec.encode(event) + b"\n\n"

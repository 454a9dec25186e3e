"""Server-sent events of a process: where its order stands, and how often its letters were printed."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from aiohttp import web

from portal.web.guard import require_session
from portal.web.keys import CODES, SERVICES, STREAMS
from protocol import codec
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from portal.views import LetterView
    from protocol.messages import PageEvent

T = TypeVar("T")
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
    """``GET /processes/ID/events``: stream the events of a process's order."""
    session = await require_session(request)
    process_id = request.match_info["id"]
    events = request.app[SERVICES].events(session, process_id)
    with request.app[STREAMS].admit(session.id):
        # The first event before the answer begins: what is refused is refused with a status.
        first = await anext(events, None)
        if first is not None and first.state != "waiting":
            request.app[CODES].forget(process_id)
        return await _stream(request, first, events, _event)


async def get_letters(request: web.Request) -> web.StreamResponse:
    """``GET /processes/ID/letters``: stream how often each letter of a process was printed, until there is none."""
    session = await require_session(request)
    letters = request.app[SERVICES].letters(session, request.match_info["id"])
    with request.app[STREAMS].admit(session.id):
        return await _stream(request, await anext(letters, None), letters, _printed)


async def _stream(
    request: web.Request, first: T | None, following: AsyncIterator[T], event: Callable[[T], bytes]
) -> web.StreamResponse:
    """Write events until there are no more."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    try:
        if first is not None:
            await response.write(event(first))
            await _forward(following, response, event)
        await response.write(_END)
        await response.write_eof()
    except ConnectionResetError:
        _LOG.debug("an event stream's browser has gone")
    return response


async def _forward(
    following: AsyncIterator[T], response: web.StreamResponse, event: Callable[[T], bytes]
) -> None:
    """Write events as they come, and a comment now and then so that the connection isn't taken for dead."""
    pending = asyncio.ensure_future(anext(following, None))
    try:
        while True:
            done, _ = await asyncio.wait({pending}, timeout=KEEP_ALIVE_SECONDS)
            if not done:
                await response.write(b":\n\n")
                continue
            found = pending.result()
            if found is None:
                return
            await response.write(event(found))
            pending = asyncio.ensure_future(anext(following, None))
    finally:
        pending.cancel()


def _event(event: PageEvent) -> bytes:
    return b"event: order\ndata: " + codec.encode(event) + b"\n\n"


def _printed(letters: Sequence[LetterView]) -> bytes:
    rows = [
        {"kind": letter.kind, "standing": letter.standing, "verb": letter.verb, "left": letter.left}
        for letter in letters
    ]
    return b"event: letters\ndata: " + msgspec.json.encode(rows) + b"\n\n"

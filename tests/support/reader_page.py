"""A page that watches the readers over the agent's loopback socket, as the page's client `watchReaders` does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from protocol import jose
from protocol.loopback_ports import PATH, PORTS, SUBPROTOCOL
from protocol.messages import PROTOCOL_VERSIONS, HelloParams, Message, ReadersParams, Ticket, TicketParams
from protocol.page_messages import TICKET_SECONDS
from protocol.session import Notification, Response, Role, Session
from tests.support.fake_portal import FakePortal

TELLING_SECONDS: Final = 60.0


class ReaderPage:
    """See `open_reader_page`.

    Attributes:
        shown: how the readers stand now.
    """

    def __init__(self, connection: ClientConnection, ticket: Callable[[], str]) -> None:
        self._connection = connection
        self._ticket = ticket
        self._renew_at = 0.0
        self._session = Session(Role.LOOPBACK_PAGE)
        self.shown = ReadersParams(readers=[], service=False)

    async def watch(self) -> None:
        """Say hello, and be told how the readers stand."""
        await self._call("hello", HelloParams(versions=list(PROTOCOL_VERSIONS)), [])
        await self._watch([])

    async def until(self, holds: Callable[[ReadersParams], bool]) -> list[ReadersParams]:
        """Everything that is told until something is so; nothing when it is so now.

        Raises:
            TimeoutError: it isn't within `TELLING_SECONDS`.
        """
        told: list[ReadersParams] = []
        async with asyncio.timeout(TELLING_SECONDS):
            if time.monotonic() > self._renew_at:
                await self._watch(told)
            while not holds(self.shown):
                event = self._session.receive(await self._connection.recv())
                assert isinstance(event, Notification), event
                self._take(event, told)
        return told

    async def _watch(self, told: list[ReadersParams]) -> None:
        """With a fresh ticket before the one of before runs out: the watch has no gap, and goes on counting."""
        self._renew_at = time.monotonic() + TICKET_SECONDS / 2
        first = await self._call("watch_readers", TicketParams(ticket=self._ticket()), told)
        assert isinstance(first, ReadersParams)
        self.shown = first

    def _take(self, event: Notification, told: list[ReadersParams]) -> None:
        assert isinstance(event.params, ReadersParams), event
        assert not event.params.last, "the ticket has run out"
        self.shown = event.params
        told.append(event.params)

    async def _call(self, method: str, params: Message, told: list[ReadersParams]) -> Message:
        _, frame = self._session.call(method, params)
        await self._connection.send(frame, text=True)
        async with asyncio.timeout(TELLING_SECONDS):
            while isinstance(event := self._session.receive(await self._connection.recv()), Notification):
                self._take(event, told)
        assert isinstance(event, Response), event
        return event.result


@asynccontextmanager
async def open_reader_page(portal: FakePortal, port: int = PORTS[0]) -> AsyncIterator[ReaderPage]:
    """A page of a portal whose key set the agent knows, since it has carried out an order of it."""

    def ticket() -> str:
        now = int(time.time())
        fresh = Ticket(
            iss=portal.portal,
            aud="inlay",
            origin=portal.origin,
            level="read",
            iat=now,
            exp=now + TICKET_SECONDS,
        )
        return portal.key.sign(jose.TICKET, fresh)

    async with connect(
        f"ws://127.0.0.1:{port}{PATH}", origin=Origin(portal.origin), subprotocols=[Subprotocol(SUBPROTOCOL)]
    ) as connection:
        page = ReaderPage(connection, ticket)
        await page.watch()
        yield page

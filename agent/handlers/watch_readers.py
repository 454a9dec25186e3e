"""``watch_readers``: a page with a ticket is told of readers and cards as they come and go."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec

from protocol.messages import Message, ReadersParams, TicketParams

if TYPE_CHECKING:
    from agent.order_ports import Page, PageRequest, ReaderFeed, Services


async def handle_page(services: Services, request: PageRequest) -> Message:
    """Answer with how the readers stand, and tell each change until the ticket has run out.

    Raises:
        InlayError: ``not_authenticated``.
    """
    params = request.params
    if not isinstance(params, TicketParams):
        raise TypeError(type(params))
    seconds = services.trust.check_ticket(params.ticket, request.page.origin)
    feed = await services.readers.watch()
    try:
        first = await feed.next()
    except BaseException:
        await feed.close()
        raise
    request.page.follow(_tell(request.page, feed, first, seconds))
    return first


async def _tell(page: Page, feed: ReaderFeed, shown: ReadersParams, seconds: float) -> None:
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    shown = await feed.next()
                    page.readers(shown)
        page.readers(msgspec.structs.replace(shown, last=True))
    finally:
        await feed.close()

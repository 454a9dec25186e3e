"""*Check this computer*: readers and cards of the machine that the page is open on, and the ticket to see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from portal.web.guard import read_form, require_session
from portal.web.keys import SERVICES
from portal.web.templating import page

if TYPE_CHECKING:
    from aiohttp.web import Request, Response


async def get_computer(request: Request) -> Response:
    """``GET /computer``: the page's script asks the agent for what it shows, and the portal learns nothing of it."""
    return page(request, "computer.html", await require_session(request))


async def post_ticket(request: Request) -> Response:
    """``POST /ticket``: a session ticket to read, for a page's script as JSON."""
    session = await require_session(request)
    await read_form(request, session.csrf_token)
    return web.json_response({"ticket": await request.app[SERVICES].ticket(session)})

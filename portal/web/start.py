"""The Self-Service start page, and help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.web.guard import require_session, session_of
from portal.web.keys import SERVICES
from portal.web.templating import page

if TYPE_CHECKING:
    from aiohttp import web


async def get_start(request: web.Request) -> web.Response:
    """``GET /start``: what the person can do."""
    session = await require_session(request)
    services = request.app[SERVICES]
    startable = await services.dashboard(session)
    cards = await services.cards(session)
    waiting = await services.waiting(session)
    return page(request, "start.html", session, startable=startable, cards=cards, waiting=waiting)


async def get_help(request: web.Request) -> web.Response:
    """``GET /help``: open to all, because who is about to trust this portal has no account yet."""
    return page(request, "help.html", await session_of(request))

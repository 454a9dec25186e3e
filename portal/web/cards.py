"""The person's cards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.web.guard import require_session
from portal.web.keys import SERVICES
from portal.web.templating import page

if TYPE_CHECKING:
    from aiohttp import web


async def get_cards(request: web.Request) -> web.Response:
    """``GET /cards``."""
    session = await require_session(request)
    return page(request, "cards.html", session, cards=await request.app[SERVICES].cards(session))

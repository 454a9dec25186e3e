"""The person's cards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.views import ObjectRef
from portal.web.guard import require_session
from portal.web.keys import SERVICES
from portal.web.templating import page

if TYPE_CHECKING:
    from aiohttp import web


async def get_cards(request: web.Request) -> web.Response:
    """``GET /cards``."""
    session = await require_session(request)
    services = request.app[SERVICES]
    cards = await services.cards(session)
    possible = {card.id: await services.possible(session, ObjectRef(card.kind, card.id)) for card in cards}
    return page(request, "cards.html", session, cards=cards, possible=possible)

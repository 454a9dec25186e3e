"""``readers`` for this user's programs, ``list_readers`` for pages with a ticket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.handlers.parameters import require_none
from protocol.messages import ListReadersResult, Message, TicketParams

if TYPE_CHECKING:
    from typing import Any

    from agent.order_ports import PageRequest, PrivateRequest, Services


async def handle(services: Services, request: PrivateRequest) -> dict[str, Any]:
    """All readers, with the label of the virtual card where one of ours is in it.

    Raises:
        InlayError: ``pcsc_no_service``, ``pcsc_failed``.
    """
    require_none(request)
    labels = {row["reader"]: row.get("label") for row in await services.cards.overview() if row["reader"]}
    rows = [
        {
            "name": reader.name,
            "card": reader.card_present,
            "atr": reader.atr,
            "label": labels.get(reader.name),
            "problem": None,
        }
        for reader in await services.readers.list_readers()
    ]
    return {"readers": rows}


async def handle_page(services: Services, request: PageRequest) -> Message:
    """All readers, for a page whose portal signed it a ticket.

    Raises:
        InlayError: ``not_authenticated``, ``pcsc_no_service``, ``pcsc_failed``.
    """
    params = request.params
    if not isinstance(params, TicketParams):
        raise TypeError(type(params))
    services.trust.check_ticket(params.ticket, request.page.origin)
    return ListReadersResult(readers=(await services.readers.list_readers())[:64])

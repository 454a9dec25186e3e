"""``check_computer``: what the doctor finds about service, readers and cards, for a page with a ticket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.messages import CheckComputerResult, Message, TicketParams

if TYPE_CHECKING:
    from agent.order_ports import PageRequest, Services


async def handle_page(services: Services, request: PageRequest) -> Message:
    """The findings, for a page whose portal signed it a ticket. No try of a PIN is spent.

    Raises:
        InlayError: ``not_authenticated``.
    """
    params = request.params
    if not isinstance(params, TicketParams):
        raise TypeError(type(params))
    services.trust.check_ticket(params.ticket, request.page.origin)
    return CheckComputerResult(findings=await services.readers.check())

"""``open``: a link from the browser through the desktop, or a code from a page over the loopback socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent.order_ports import Ending, PageRequest, PrivateRequest, Services, Submission
from protocol import codec, link
from protocol.errors import InlayError
from protocol.messages import Message, OpenParams, OpenResult, Transport

if TYPE_CHECKING:
    from typing import Any


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters on the private socket."""

    link: str


async def handle(services: Services, request: PrivateRequest) -> dict[str, Any] | Ending:
    """Take a link.

    Raises:
        InlayError: ``link_…``, ``portal_unknown``, ``order_busy``.
    """
    params = codec.convert(dict(request.params), Params, malformed="params_invalid")
    try:
        parsed = link.parse(params.link)
    except link.LinkError as error:
        raise InlayError(error.cause) from None
    return services.orders.submit(Submission(parsed.portal, parsed.code, Transport.LINK, request.environment))


async def handle_page(services: Services, request: PageRequest) -> Message:
    """Take a code from a page of the portal that the code is for.

    Raises:
        InlayError: ``origin_refused``: a page hands over codes of its own portal only; ``portal_unknown``,
            ``order_busy``.
    """
    params = request.params
    if not isinstance(params, OpenParams):
        raise TypeError(type(params))
    if f"https://{params.portal}" != request.page.origin:
        raise InlayError("origin_refused")
    services.orders.submit(
        Submission(params.portal, params.code, Transport.LOOPBACK, request.environment, request.page)
    )
    return OpenResult(accepted=True)

"""``code``: a code that a person typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent.order_ports import Ending, PrivateRequest, Services, Submission
from protocol import codec, link
from protocol.errors import InlayError
from protocol.messages import Transport

if TYPE_CHECKING:
    from typing import Any


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters on the private socket."""

    portal: str
    code: str


async def handle(services: Services, request: PrivateRequest) -> dict[str, Any] | Ending:
    """Take a typed code.

    Raises:
        InlayError: ``link_bad_code``, ``portal_unknown``, ``order_busy``.
    """
    params = codec.convert(dict(request.params), Params, malformed="params_invalid")
    try:
        code = link.normalise_typed_code(params.code)
    except link.LinkError as error:
        raise InlayError(error.cause) from None
    return services.orders.submit(Submission(params.portal, code, Transport.TYPED, request.environment))

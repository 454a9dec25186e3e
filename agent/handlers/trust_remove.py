"""``trust.remove``: trust a portal no longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from protocol import codec

if TYPE_CHECKING:
    from typing import Any

    from agent.order_ports import PrivateRequest, Services


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters on the private socket."""

    portal: str


async def handle(services: Services, request: PrivateRequest) -> dict[str, Any]:
    """Remove an entry of the user's.

    Raises:
        InlayError: ``portal_unknown``, ``portal_forbidden``.
    """
    params = codec.convert(dict(request.params), Params, malformed="params_invalid")
    await services.trust.remove(params.portal)
    return {"removed": params.portal}

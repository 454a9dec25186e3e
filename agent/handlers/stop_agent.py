"""``stop``: the person ends the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from protocol import codec

if TYPE_CHECKING:
    from typing import Any

    from agent.order_ports import PrivateRequest, Services


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters on the private socket."""

    now: bool = False


async def handle(services: Services, request: PrivateRequest) -> dict[str, Any]:
    """End the agent, and say what was under way.

    Raises:
        InlayError: ``agent_busy``.
    """
    params = codec.convert(dict(request.params), Params, malformed="params_invalid")
    return {"stopped": True, "under_way": services.shutdown.stop(now=params.now)}

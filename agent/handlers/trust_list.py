"""``trust.list``: the portals this machine trusts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.handlers.parameters import require_none

if TYPE_CHECKING:
    from typing import Any

    from agent.order_ports import PrivateRequest, Services


async def handle(services: Services, request: PrivateRequest) -> dict[str, Any]:
    """All entries that count."""
    require_none(request)
    return {"portals": services.trust.overview()}

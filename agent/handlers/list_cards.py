"""``cards``: this user's virtual cards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.handlers.parameters import require_none

if TYPE_CHECKING:
    from typing import Any

    from agent.order_ports import PrivateRequest, Services


async def handle(services: Services, request: PrivateRequest) -> dict[str, Any]:
    """All cards, the unusable ones with their problem."""
    require_none(request)
    return {"cards": await services.cards.overview()}

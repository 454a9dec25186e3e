"""``start_over`` and ``start_over.confirm``: what a lost secret protected, and putting it aside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.handlers.parameters import require_none

if TYPE_CHECKING:
    from typing import Any

    from agent.order_ports import PrivateRequest, Services


async def handle(services: Services, request: PrivateRequest) -> dict[str, Any]:
    """Say what would be put aside. Nothing is changed."""
    require_none(request)
    return await services.cards.lost()


async def handle_confirmation(services: Services, request: PrivateRequest) -> dict[str, Any]:
    """Put it aside, after the person has agreed."""
    require_none(request)
    return await services.cards.start_over()

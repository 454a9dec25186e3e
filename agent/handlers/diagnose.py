"""``diagnose``: what only the running agent knows, for `inlay doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.device import version
from agent.handlers import list_cards

if TYPE_CHECKING:
    from typing import Any

    from agent.order_ports import PrivateRequest, Services


async def handle(services: Services, request: PrivateRequest) -> dict[str, Any]:
    """Its version, its cards with what keeps them out of their readers, and what concerns them all."""
    return {"version": version()} | await list_cards.handle(services, request)

"""``diagnose``: what only the running agent knows, for `inlay doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.device import version
from agent.handlers import list_cards
from agent.pcsc import traffic

if TYPE_CHECKING:
    from typing import Any

    from agent.order_ports import PrivateRequest, Services


async def handle(services: Services, request: PrivateRequest) -> dict[str, Any]:
    """Its version, whether it logs traffic, its cards with what keeps them out of readers, what concerns them all."""
    return {"version": version(), "traffic": traffic.is_on()} | await list_cards.handle(services, request)

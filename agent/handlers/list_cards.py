"""``cards``: this user's virtual cards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.handlers.parameters import require_none

if TYPE_CHECKING:
    from typing import Any

    from agent.order_ports import PrivateRequest, Services


async def handle(services: Services, request: PrivateRequest) -> dict[str, Any]:
    """All cards, the unusable ones with their problem; and what concerns them all."""
    require_none(request)
    cards = await services.cards.overview()
    notes = [
        {"code": note.code, "happened": note.happened, "why": note.why, "next": note.next_step}
        for note in (services.cards.notes() if cards else ())
    ]
    return {"cards": cards, "notes": notes}

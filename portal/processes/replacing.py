"""The end of a card that a new one has replaced: in the transaction in which the new one becomes active."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portal.ca.authority import Reason
from portal.model.graphs import Why
from portal.model.objects import CoreObject
from portal.model.relations import REPLACES as RELATION
from portal.model.states import VirtualSmartCardState
from portal.processes import card_certificates, tasks
from portal.store import objects, transitions
from portal.store.relations import relate
from portal.store.tables import Card, Process
from portal.store.transitions import StateChange

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.store.tables import Order

REPLACES: Final = "replaces"
"""The process variable that holds the card to be replaced."""


async def replace_old(tx: AsyncSession, order: Order, card: Card, actor: str, now: int) -> None:
    """Replace the card that an order's process names, if it names one.

    Its certificates are revoked as superseded, except those that were recovered on to the new card. A card that has
    ended otherwise meanwhile, locked by an operator for example, stays in that state.
    """
    process = await tx.get_one(Process, order.process_id)
    named = process.variables.get(REPLACES)
    if not isinstance(named, CoreObject):
        return
    old = await tx.get_one(Card, named.id, with_for_update=True, populate_existing=True)
    if not transitions.is_final(tx, old):
        change = StateChange(actor, now, Why.LOST)
        await transitions.change_state(tx, old, VirtualSmartCardState.REPLACED, change, by=card.id)
    recovered = {item.recovers for item in tasks.plan_of(order).recovered}
    kept = {name for name in recovered if name is not None}
    await card_certificates.revoke_all(tx, old, kept, Reason.SUPERSEDED, actor, now)
    await relate(tx, objects.describe(card), objects.describe(old), RELATION, actor=actor, at=now)

"""The end of a card that its owner deletes, in the caller's writing transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.ca.authority import Reason
from portal.model.graphs import Why
from portal.model.states import VirtualSmartCardState
from portal.processes import certificates
from portal.store import audit, objects
from portal.store.transitions import StateChange, change_state, is_final

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.store.tables import Card


async def end(tx: AsyncSession, card: Card, actor: str, now: int, **details: str) -> None:
    """Have the CA revoke a card's certificates, and lock it unless it is in a final state already.

    Args:
        tx: a writing transaction that has locked the card.
        card: the card.
        actor: who, for the audit log.
        now: time.
        details: what else is worth knowing, for the audit log.
    """
    for certificate in await certificates.of_card(tx, card, lock=True):
        await certificates.enqueue_revocation(tx, certificate, Reason.CESSATION_OF_OPERATION, actor, now)
    if not is_final(tx, card):
        await change_state(
            tx, card, VirtualSmartCardState.LOCKED, StateChange(actor, now, Why.DELETED), **details
        )
    await audit.record(
        tx,
        at=now,
        actor=actor,
        action="card.deleted",
        kind=objects.kind_of(card).value,
        object_id=card.id,
        **details,
    )

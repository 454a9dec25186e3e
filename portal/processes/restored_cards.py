"""Notices a card whose old file was put back: with it came the tries that had been spent, and the old PIN.

A card's file counts how often it was saved. Devices say the counts of their cards with each claim; one that is lower
than what was seen before comes from an old copy. It is noted and shown; nothing is refused, for the person may be
about to get another card.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import select

from portal.store import audit
from portal.store.tables import Card

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.ext.asyncio import AsyncSession

    from protocol.messages import CardGeneration

_LOG = logging.getLogger(__name__)


async def note(tx: AsyncSession, device: str, told: Iterable[CardGeneration], now: int) -> None:
    """Keep the highest generation of each card; note a card once when a lower one comes.

    Args:
        tx: a writing transaction that hasn't written to the audit log yet: cards are locked before the log.
        device: thumbprint of the key that signed what was told; cards of other devices are passed over.
        told: what it tells.
        now: time.
    """
    generations: dict[str, int] = {}
    for item in told:
        generations[item.guid] = min(item.generation, generations.get(item.guid, item.generation))
    if not generations:
        return
    query = select(Card).where(Card.guid.in_(generations), Card.device_jkt == device).order_by(Card.id)
    for card in list(await tx.scalars(query.with_for_update())):
        generation = generations[card.guid]
        if generation < card.generation and card.restored_at is None:
            card.restored_at = now
            _LOG.warning("card %s: a file of generation %d after %d", card.id, generation, card.generation)
            await audit.record(
                tx,
                at=now,
                actor=f"device:{device}",
                action="card.restored_file",
                kind=card.kind,
                object_id=card.id,
                generation=generation,
                seen=card.generation,
            )
        card.generation = max(card.generation, generation)

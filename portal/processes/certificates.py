"""Certificates of orders as rows: found, and given to the revocation queue.

Everything here runs in the caller's writing transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import or_, select

from portal.model.states import CaState
from portal.processes import ca_changes
from portal.processes.ca_changes import Change
from portal.store.tables import Card, Certificate, ObjectRelation, Order

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.ca.authority import Reason

FOR_PROOF: Final = "proof"
"""``Certificate.held_for``: on hold at the CA until its key has proved itself."""


async def of_order(tx: AsyncSession, jti: str) -> list[Certificate]:
    """The certificates that were issued for an order, locked for this transaction."""
    query = select(Certificate).where(Certificate.order_jti == jti).order_by(Certificate.slot)
    return list(await tx.scalars(query.with_for_update()))


def is_of_card(card: Card | type[Card] = Card) -> ColumnElement[bool]:
    """That a certificate is a card's: related to it, or issued for it by an order, however that ended.

    Args:
        card: which; the table: that of the query around this one.
    """
    related = select(ObjectRelation.to_id).where(
        ObjectRelation.from_kind == card.kind,
        ObjectRelation.from_id == card.id,
        ObjectRelation.to_kind == "certificate",
    )
    ordered = select(Order.jti).where(Order.card_id == card.id)
    if not isinstance(card, Card):
        related, ordered = related.correlate(Card), ordered.correlate(Card)
    return or_(Certificate.id.in_(related), Certificate.order_jti.in_(ordered))


async def of_card(tx: AsyncSession, card: Card, *, lock: bool = False) -> list[Certificate]:
    """A card's certificates: related to it, or issued for it by an order, however that ended."""
    query = select(Certificate).where(is_of_card(card))
    query = query.order_by(Certificate.slot, Certificate.id)
    return list(await tx.scalars(query.with_for_update() if lock else query))


async def release_proved(tx: AsyncSession, jti: str, actor: str, now: int) -> None:
    """Have the CA release what an order that has won left on hold: it couldn't when it was asked at the receipt."""
    for certificate in await of_order(tx, jti):
        if certificate.held_for == FOR_PROOF and certificate.ca_state == CaState.HELD:
            await ca_changes.ask(tx, certificate, Change.RELEASE, actor, now)


async def enqueue_revocation(
    tx: AsyncSession, certificate: Certificate, reason: Reason, actor: str, now: int
) -> None:
    """Have a certificate revoked: shown as Revoked only once the CA has confirmed it."""
    await ca_changes.ask(tx, certificate, Change.REVOKE, actor, now, reason)

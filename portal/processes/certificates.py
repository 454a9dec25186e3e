"""Certificates of orders as rows: found, related, and given to the revocation queue.

Everything here runs in the caller's writing transaction.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from portal.events import REVOCATIONS
from portal.model import states
from portal.model.states import CertificateState
from portal.store import audit
from portal.store.database import notify
from portal.store.tables import Certificate, ObjectRelation, Revocation

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.ca.authority import Reason

HAS_A: Final = "HAS_A"


async def of_order(tx: AsyncSession, jti: str) -> list[Certificate]:
    """The certificates that were issued for an order, locked for this transaction."""
    query = select(Certificate).where(Certificate.order_jti == jti).order_by(Certificate.slot)
    return list(await tx.scalars(query.with_for_update()))


async def enqueue_revocation(
    tx: AsyncSession, certificate: Certificate, reason: Reason, actor: str, now: int
) -> None:
    """Have a certificate revoked: shown as Revoked only once the CA has confirmed it."""
    final = states.CERTIFICATE.final
    if CertificateState(certificate.state) in final or await tx.get(Revocation, certificate.id) is not None:
        return
    tx.add(
        Revocation(
            certificate_id=certificate.id, reason=reason.value, tries=0, next_try_at=now, created_at=now
        )
    )
    certificate.revocation_reason = reason.value
    await audit.record(
        tx,
        at=now,
        actor=actor,
        action="certificate.revocation_asked",
        kind="certificate",
        object_id=certificate.id,
        reason=reason.value,
    )
    notify(tx, REVOCATIONS)


async def relate(
    tx: AsyncSession, from_kind: str, from_id: str, relation: str, to_kind: str, to_id: str, now: int
) -> None:
    """Relate two objects."""
    tx.add(
        ObjectRelation(
            id=secrets.token_hex(16),
            from_kind=from_kind,
            from_id=from_id,
            relation=relation,
            to_kind=to_kind,
            to_id=to_id,
            created_at=now,
        )
    )
    await tx.flush()

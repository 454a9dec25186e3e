"""Changes of a certificate's status that the CA has to confirm: asked for here, carried out by ``revocations``.

One change waits for each certificate. A revocation takes the place of whatever waits, and nothing takes its place; of
hold and release the last one asked for counts. What a page shows changes when the CA has confirmed, never before.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import func, select

from portal.ca.authority import REVOKING, Reason
from portal.errors import WrongState
from portal.events import REVOCATIONS
from portal.model.states import CaState, CertificateState
from portal.store import audit, transitions
from portal.store.database import model_of, notify
from portal.store.tables import Certificate, Revocation

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


class Change(enum.StrEnum):
    """What the CA is asked to do."""

    REVOKE = "revoke"
    HOLD = "hold"
    RELEASE = "release"


PENDING: Final = {
    Change.REVOKE: "revocation pending",
    Change.HOLD: "hold pending",
    Change.RELEASE: "release pending",
}
"""What waits, in words for people."""


class Waiting(NamedTuple):
    """A change that waits for the CA.

    Attributes:
        certificate_id: whose.
        serial: of the certificate, hexadecimal.
        subject: of the certificate.
        change: what the CA is asked to do.
        reason: of a revocation.
        since: when it was asked for.
        tries: how often the CA was asked.
        next_try_at: when it is asked again.
        last_error: what became of the last try: ``unavailable``, ``timeout``, or the CA's reason to refuse; None before
            the first.
    """

    certificate_id: str
    serial: str
    subject: str
    change: Change
    reason: str
    since: int
    tries: int
    next_try_at: int
    last_error: str | None


class Summary(NamedTuple):
    """How much waits.

    Attributes:
        revocations: how many of them are revocations.
        others: holds and releases.
        oldest: since when the oldest waits; None when nothing does.
    """

    revocations: int
    others: int
    oldest: int | None


async def ask(
    tx: AsyncSession,
    certificate: Certificate,
    change: Change,
    actor: str,
    now: int,
    reason: Reason = Reason.UNSPECIFIED,
) -> None:
    """Have the CA change a certificate's status, in the caller's writing transaction. Asked twice, it is done once.

    Args:
        tx: a writing transaction that has locked the certificate.
        certificate: the certificate.
        change: what for.
        actor: who asks, for the audit log.
        now: time.
        reason: of a revocation; one of ``REVOKING``.

    Raises:
        WrongState: hold or release of a certificate in a state that has no such transition.
        ValueError: the reason is none to revoke for good.
    """
    if change is Change.REVOKE and reason not in REVOKING:
        raise ValueError(reason)
    if change is Change.REVOKE and transitions.is_final(tx, certificate):
        return
    waiting = await tx.get(Revocation, certificate.id, with_for_update=True)
    if waiting is not None and waiting.change in (Change.REVOKE, change):
        return
    _check(tx, certificate, change, waiting)
    _put(tx, certificate, waiting, change, reason, now)
    await audit.record(
        tx,
        at=now,
        actor=actor,
        action=_ASKED[change],
        kind="certificate",
        object_id=certificate.id,
        **({"reason": reason.value} if change is Change.REVOKE else {}),
    )
    notify(tx, REVOCATIONS)


def _put(
    tx: AsyncSession,
    certificate: Certificate,
    waiting: Revocation | None,
    change: Change,
    reason: Reason,
    now: int,
) -> None:
    """Let a change wait, in the place of the one that does."""
    if waiting is None:
        waiting = Revocation(certificate_id=certificate.id, created_at=now)
        tx.add(waiting)
    waiting.change, waiting.reason = change.value, reason.value
    waiting.tries, waiting.next_try_at, waiting.last_error = 0, now, None
    if change is Change.REVOKE:
        certificate.revocation_reason = reason.value


def _check(tx: AsyncSession, certificate: Certificate, change: Change, waiting: Revocation | None) -> None:
    """Hold: there is a transition. Release: on hold here, or shown as Valid and on hold at the CA, or about to be."""
    if change is Change.HOLD:
        transitions.graph_of(tx, certificate).check(certificate.state, CertificateState.ON_HOLD)
    if change is not Change.RELEASE:
        return
    valid = model_of(tx).certificates.graph(certificate.profile).valid
    held = certificate.ca_state == CaState.HELD or (waiting is not None and waiting.change == Change.HOLD)
    if certificate.state != CertificateState.ON_HOLD and not (certificate.state == valid and held):
        raise WrongState("certificate", certificate.state, (CertificateState.ON_HOLD.value,))


async def summary(tx: AsyncSession) -> Summary:
    """How many changes wait for the CA."""
    query = select(Revocation.change, func.count(), func.min(Revocation.created_at)).group_by(
        Revocation.change
    )
    rows = {change: (count, oldest) for change, count, oldest in await tx.execute(query)}
    revocations = rows.get(Change.REVOKE, (0, None))[0]
    total = sum(count for count, _ in rows.values())
    return Summary(revocations, total - revocations, min((at for _, at in rows.values()), default=None))


async def waiting(tx: AsyncSession, limit: int, after: str = "") -> list[Waiting]:
    """What waits, by certificate id.

    Args:
        tx: a transaction.
        limit: how many at the most.
        after: the last certificate id of the page before.
    """
    query = (
        select(Revocation, Certificate.serial, Certificate.subject)
        .join(Certificate, Certificate.id == Revocation.certificate_id)
        .where(Revocation.certificate_id > after)
        .order_by(Revocation.certificate_id)
        .limit(limit)
    )
    return [
        Waiting(
            row.certificate_id,
            serial,
            subject,
            Change(row.change),
            row.reason,
            row.created_at,
            row.tries,
            row.next_try_at,
            row.last_error,
        )
        for row, serial, subject in await tx.execute(query)
    ]


async def retry_now(tx: AsyncSession, actor: str, now: int) -> int:
    """Have everything that waits tried now; tells how much that is."""
    later = list(await tx.scalars(select(Revocation).where(Revocation.next_try_at > now).with_for_update()))
    for row in later:
        row.next_try_at = now
    if later:
        await audit.record(
            tx, at=now, actor=actor, action="ca.retry_asked", kind="ca", object_id="queue", waiting=len(later)
        )
    notify(tx, REVOCATIONS)
    return len(later)


_ASKED = {
    Change.REVOKE: "certificate.revocation_asked",
    Change.HOLD: "certificate.hold_asked",
    Change.RELEASE: "certificate.release_asked",
}

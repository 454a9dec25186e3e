"""Carries out what ``ca_changes`` keeps: a certificate is shown as Revoked or On Hold once the CA has confirmed it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from portal.ca.authority import CaError, CaRefusedError, Reason
from portal.events import REVOCATIONS, order_topic
from portal.model.graphs import Why
from portal.model.states import CaState, CertificateState
from portal.processes.ca_changes import Change
from portal.store import audit
from portal.store.database import model_of, notify
from portal.store.tables import Certificate, Revocation
from portal.store.transitions import StateChange, change_state

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context

_LOG = logging.getLogger(__name__)
_FIRST_WAIT: Final = 5
_LONGEST_WAIT: Final = 3600
_CA_STATE: Final = {
    Change.REVOKE: CaState.REVOKED,
    Change.HOLD: CaState.HELD,
    Change.RELEASE: CaState.GOOD,
}


class Revocations:
    """Carries out revocations, holds and releases; an outage of the CA is waited out."""

    topic = REVOCATIONS

    def __init__(self, context: Context) -> None:
        self._context = context

    async def next_due(self) -> int | None:
        """When the next change is tried."""
        async with self._context.database.read() as tx:
            return await tx.scalar(select(func.min(Revocation.next_try_at)))

    async def run_due(self) -> None:
        """Try what is due."""
        due = select(Revocation.certificate_id).where(Revocation.next_try_at <= self._context.clock())
        async with self._context.database.read() as tx:
            waiting = list(await tx.scalars(due.order_by(Revocation.next_try_at)))
        for certificate_id in waiting:
            await self._try(certificate_id)

    async def _try(self, certificate_id: str) -> None:
        async with self._context.database.read() as tx:
            certificate = await tx.get_one(Certificate, certificate_id)
            row = await tx.get(Revocation, certificate_id)
        if row is None:
            return  # another run was quicker
        change = Change(row.change)
        try:
            async with asyncio.timeout(self._context.ca_seconds):
                await self._change(certificate.serial, change, Reason(row.reason))
        except CaRefusedError as refusal:
            if refusal.reason == "revoked":  # for good, which is more than hold or release
                await self._confirmed(certificate_id, change, Change.REVOKE)
            else:
                await self._wait(certificate_id, refusal.reason)
        except CaError:
            await self._wait(certificate_id, "unavailable")
        except TimeoutError:
            await self._wait(certificate_id, "timeout")
        else:
            await self._confirmed(certificate_id, change, change)

    async def _change(self, serial: str, change: Change, reason: Reason) -> None:
        match change:
            case Change.REVOKE:
                await self._context.ca.revoke(serial, reason)
            case Change.HOLD:
                await self._context.ca.hold(serial)
            case Change.RELEASE:
                await self._context.ca.release(serial)

    async def _wait(self, certificate_id: str, why: str) -> None:
        async with self._context.database.write() as tx:
            row = await tx.get(Revocation, certificate_id, with_for_update=True)
            if row is None:
                return
            row.tries += 1
            row.last_error = why
            wait = min(_FIRST_WAIT * 2 ** min(row.tries - 1, 20), _LONGEST_WAIT)
            row.next_try_at = self._context.clock() + wait
        _LOG.warning("the CA did not change certificate %s (%s); next try in %d s", certificate_id, why, wait)

    async def _confirmed(self, certificate_id: str, asked: Change, done: Change) -> None:
        """Show what the CA has done, unless something else was asked for while it did it."""
        async with self._context.database.write() as tx:
            now = self._context.clock()
            certificate = await tx.get_one(Certificate, certificate_id, with_for_update=True)
            row = await tx.get(Revocation, certificate_id)
            if row is None:
                return
            certificate.ca_state = _CA_STATE[done].value
            certificate.changed_at = now
            if row.change != asked and done is not Change.REVOKE:
                return  # the later change is due already
            await tx.delete(row)
            await _show(tx, certificate, done, now)
            if certificate.order_jti is not None:
                notify(tx, order_topic(certificate.order_jti))


async def _show(tx: AsyncSession, certificate: Certificate, done: Change, now: int) -> None:
    """Show what the CA has done; one that was on hold at the CA alone is shown as valid already."""
    valid = model_of(tx).certificates.graph(certificate.profile).valid
    target = {
        Change.REVOKE: CertificateState.REVOKED.value,
        Change.HOLD: CertificateState.ON_HOLD.value,
        Change.RELEASE: valid,
    }[done]
    if done is Change.RELEASE and certificate.state == valid:
        await audit.record(
            tx,
            at=now,
            actor="portal",
            action="certificate.released",
            kind="certificate",
            object_id=certificate.id,
        )
        return
    reason = {"reason": certificate.revocation_reason or ""} if done is Change.REVOKE else {}
    await change_state(tx, certificate, target, StateChange("portal", now, Why.IN_CA), **reason)

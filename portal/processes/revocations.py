"""The durable queue of revocations: a certificate is shown as Revoked only when the CA has confirmed it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from portal.ca.authority import CaError, Reason
from portal.events import REVOCATIONS, order_topic
from portal.model import states
from portal.model.states import CaState, CertificateState
from portal.store import audit
from portal.store.database import notify
from portal.store.tables import Certificate, Revocation

if TYPE_CHECKING:
    from portal.processes.context import Context

_LOG = logging.getLogger(__name__)
_FIRST_WAIT: Final = 5
_LONGEST_WAIT: Final = 3600


class Revocations:
    """Carries out revocations; an outage of the CA is waited out."""

    topic = REVOCATIONS

    def __init__(self, context: Context) -> None:
        self._context = context

    async def next_due(self) -> int | None:
        """When the next revocation is tried."""
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
        try:
            async with asyncio.timeout(self._context.ca_seconds):
                await self._context.ca.revoke(certificate.serial, Reason(row.reason))
        except (CaError, TimeoutError):
            await self._wait(certificate_id)
        else:
            await self._confirmed(certificate_id)

    async def _wait(self, certificate_id: str) -> None:
        async with self._context.database.write() as tx:
            row = await tx.get(Revocation, certificate_id, with_for_update=True)
            if row is None:
                return
            row.tries += 1
            wait = min(_FIRST_WAIT * 2 ** min(row.tries - 1, 20), _LONGEST_WAIT)
            row.next_try_at = self._context.clock() + wait
        _LOG.warning("the CA did not revoke certificate %s; next try in %d s", certificate_id, wait)

    async def _confirmed(self, certificate_id: str) -> None:
        async with self._context.database.write() as tx:
            now = self._context.clock()
            certificate = await tx.get_one(Certificate, certificate_id, with_for_update=True)
            row = await tx.get(Revocation, certificate_id)
            if row is None:
                return
            state = CertificateState(certificate.state)
            certificate.state = states.CERTIFICATE.check(state, CertificateState.REVOKED)
            certificate.ca_state = CaState.REVOKED.value
            certificate.changed_at = now
            await tx.delete(row)
            await audit.record(
                tx,
                at=now,
                actor="portal",
                action="certificate.revoked",
                kind="certificate",
                object_id=certificate_id,
                reason=certificate.revocation_reason or "",
            )
            if certificate.order_jti is not None:
                notify(tx, order_topic(certificate.order_jti))

"""The built-in CA: real X.509 (RFC 5280), with a list of its own of everything it issued.

Its list and its CRLs are tables that nothing else in the portal writes. Every call is its own transaction: what the CA
has done stays done when the portal's next transaction fails, as with any CA. So each change has its own entry in the
audit log, beside what the portal writes of the same certificate: what was signed and never arrived is told by it too.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from sqlalchemy import select

from portal.ca import certificates
from portal.ca.authority import REVOKING, CaRefusedError, CaUnavailableError, Reason
from portal.ca.certificates import CRL_LIFETIME, Revoked, Signer, serial_of
from portal.ca.ocsp import Status
from portal.ca.x509 import algorithm_of, key_hash, spki
from portal.keys import KeysUnavailableError
from portal.model.states import CaState
from portal.store import audit
from portal.store.tables import CaCertificate, CaCrl, CaStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric import ec
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.ca.authority import IssueRequest
    from portal.ca.x509 import PublicKey
    from portal.clock import Clock
    from portal.keys import KeyPort
    from portal.store.database import Database

_ROOT: Final = "ca"
_RESPONDER: Final = "ocsp."
RESPONDER_LIFETIME: Final = 7 * 86_400
"""Of the OCSP responder's certificate, which nobody checks for revocation; a new one is made at half of it."""

T = TypeVar("T")


class BuiltinCa:
    """The built-in CA.

    Args:
        database: where its list is.
        keys: has its key.
        clock: its time.
        origin: of the portal, for the addresses of CRL, OCSP responder and CA certificate.
        name: common name of the CA's certificate.
    """

    def __init__(self, database: Database, keys: KeyPort, clock: Clock, origin: str, name: str) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._origin = origin
        self._name = name
        self._own: x509.Certificate | None = None

    async def certificate(self) -> bytes:
        """The CA's own certificate, DER; made at the first question."""
        return (await self._root()).public_bytes(Encoding.DER)

    async def issue(self, request: IssueRequest) -> bytes:
        """Issue a certificate, DER; the same request id is the same certificate, whatever became of it.

        Raises:
            CaRefusedError: ``profile``, ``key``, ``validity``, ``email``, or ``request_reused``: the id with another
                key.
        """
        signer = await self._signer()
        key = _public_key(request.public_key)
        hashed = key_hash(request.public_key)
        async with self._database.write() as tx:
            known = await _by_request(tx, request.request_id)
            if known is not None:
                if known.key_hash != hashed or known.own:
                    raise CaRefusedError("request_reused")
                return known.der
            now = self._clock()
            made = await _sign(lambda: certificates.leaf(signer, request, key, now))
            row = _row(made, request.request_id, hashed, now)
            if request.hold:
                row.revoked_at, row.reason = now, Reason.CERTIFICATE_HOLD.value
                await _count_change(tx)
            tx.add(row)
            await self._note(
                tx, "ca.issued", row.serial, request=request.request_id, on_hold=int(request.hold)
            )
        return row.der

    async def find(self, *, request_id: str | None = None, key_hash: str | None = None) -> list[bytes]:
        """Certificates issued for a request id or for a key."""
        query = select(CaCertificate.der).where(~CaCertificate.own)
        if request_id is not None:
            query = query.where(CaCertificate.request_id == request_id)
        if key_hash is not None:
            query = query.where(CaCertificate.key_hash == key_hash)
        async with self._database.read() as tx:
            return list(await tx.scalars(query))

    async def status(self, serial: str) -> CaState | None:
        """What the list says of a certificate."""
        async with self._database.read() as tx:
            row = await tx.get(CaCertificate, serial)
        return None if row is None or row.own else _state(row)

    async def ocsp_status(self, serial: int) -> Status | None:
        """What the OCSP responder answers for a serial number; None for one that this CA didn't issue."""
        async with self._database.read() as tx:
            row = await tx.get(CaCertificate, f"{serial:x}")
        if row is None:
            return None
        return Status(row.revoked_at, Reason(row.reason) if row.reason else None)

    async def hold(self, serial: str) -> None:
        """Put a certificate on hold.

        Raises:
            CaRefusedError: ``serial``, or ``revoked``.
        """
        async with self._database.write() as tx:
            row = await _changeable(tx, serial)
            match _state(row):
                case CaState.REVOKED:
                    raise CaRefusedError("revoked")
                case CaState.GOOD:
                    row.revoked_at, row.reason = self._clock(), Reason.CERTIFICATE_HOLD.value
                    await _count_change(tx)
                    await self._note(tx, "ca.held", serial)
                case CaState.HELD:
                    pass

    async def release(self, serial: str) -> None:
        """Take a certificate off hold.

        Raises:
            CaRefusedError: ``serial``, or ``revoked``.
        """
        async with self._database.write() as tx:
            row = await _changeable(tx, serial)
            match _state(row):
                case CaState.REVOKED:
                    raise CaRefusedError("revoked")
                case CaState.HELD:
                    row.revoked_at = row.reason = None
                    await _count_change(tx)
                    await self._note(tx, "ca.released", serial)
                case CaState.GOOD:
                    pass

    async def revoke(self, serial: str, reason: Reason) -> None:
        """Revoke a certificate; one on hold keeps the hold's time, since when nothing it signed was to be relied on.

        Raises:
            CaRefusedError: ``serial``, or ``reason``.
        """
        if reason not in REVOKING:
            raise CaRefusedError("reason")
        async with self._database.write() as tx:
            row = await _changeable(tx, serial)
            if _state(row) is CaState.REVOKED:
                return
            row.revoked_at, row.reason = row.revoked_at or self._clock(), reason.value
            await _count_change(tx)
            await self._note(tx, "ca.revoked", serial, reason=reason.value)

    async def crl(self) -> bytes:
        """The current CRL, DER; made anew when a status has changed or half of its life is gone."""
        signer = await self._signer()
        async with self._database.read() as tx:
            last, changes = await _last_crl(tx), await tx.scalar(select(CaStatus.changes))
            if last is not None and self._fresh(last, changes):
                return last.der
        async with self._database.write() as tx:
            # changes and CRLs take this lock one after the other: no CRL misses a change that its count covers
            status = (await tx.execute(select(CaStatus).with_for_update())).scalar_one()
            last = await _last_crl(tx)
            if last is not None and self._fresh(last, status.changes):
                return last.der
            return await self._publish(tx, signer, last, status.changes)

    async def responder(self, key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        """A certificate for the OCSP responder's key with at least half of its life left."""
        signer = await self._signer()
        hashed = key_hash(spki(key))
        now = self._clock()
        async with self._database.write() as tx:
            newest = (
                select(CaCertificate)
                .where(CaCertificate.key_hash == hashed, CaCertificate.own)
                .order_by(CaCertificate.not_after.desc())
                .limit(1)
            )
            row = (await tx.execute(newest)).scalar_one_or_none()
            if row is not None and now < row.not_after - RESPONDER_LIFETIME // 2:
                return x509.load_der_x509_certificate(row.der)
            until = now + RESPONDER_LIFETIME
            made = await _sign(lambda: certificates.responder(signer, key, now, until))
            own = _row(made, _RESPONDER + serial_of(made), hashed, now, own=True)
            tx.add(own)
            await self._note(tx, "ca.issued", own.serial, request=own.request_id, on_hold=0)
        return made

    async def _signer(self) -> Signer:
        return Signer(await self._root(), self._keys.ca(), self._origin)

    async def _root(self) -> x509.Certificate:
        if self._own is None:
            async with self._database.write() as tx:
                row = await _by_request(tx, _ROOT)
                if row is None:
                    now = self._clock()
                    key = self._keys.ca()
                    made = await _sign(lambda: certificates.root(self._name, key, now))
                    row = _row(made, _ROOT, "", now, own=True)
                    tx.add(row)
                    await self._note(tx, "ca.issued", row.serial, request=_ROOT, on_hold=0)
            self._own = x509.load_der_x509_certificate(row.der)
        return self._own

    def _fresh(self, last: CaCrl, changes: int | None) -> bool:
        return last.changes == changes and self._clock() < last.this_update + CRL_LIFETIME // 2

    async def _publish(self, tx: AsyncSession, signer: Signer, last: CaCrl | None, changes: int) -> bytes:
        now = self._clock()
        # RFC 5280 3.3: an entry stays until a CRL was issued after the certificate's end; here for a whole life more
        since = min(now, last.this_update if last else now) - CRL_LIFETIME
        query = select(CaCertificate.serial, CaCertificate.revoked_at, CaCertificate.reason).where(
            CaCertificate.revoked_at.is_not(None), CaCertificate.not_after >= since
        )
        rows = await tx.execute(query.order_by(CaCertificate.revoked_at, CaCertificate.serial))
        entries = [Revoked(row.serial, row.revoked_at, Reason(row.reason)) for row in rows]
        number = (last.number if last else 0) + 1
        der = await _sign(lambda: certificates.crl(signer, number, entries, now))
        tx.add(
            CaCrl(number=number, der=der, this_update=now, next_update=now + CRL_LIFETIME, changes=changes)
        )
        await self._note(tx, "ca.crl_published", str(number), entries=len(entries))
        return der

    async def _note(self, tx: AsyncSession, action: str, about: str, **details: str | int) -> None:
        """Write into the audit log what the CA does; last, because the log is locked from here on."""
        await audit.record(
            tx, at=self._clock(), actor="ca", action=action, kind="ca", object_id=about, **details
        )


async def _sign(work: Callable[[], T]) -> T:
    """Sign in a thread: the key may be in a module on the network.

    Raises:
        CaUnavailableError: the key can't be used now.
    """
    try:
        return await asyncio.to_thread(work)
    except KeysUnavailableError:
        raise CaUnavailableError from None


def _row(
    made: x509.Certificate, request_id: str, hashed: str, now: int, *, own: bool = False
) -> CaCertificate:
    return CaCertificate(
        serial=serial_of(made),
        request_id=request_id,
        key_hash=hashed,
        der=made.public_bytes(Encoding.DER),
        not_after=int(made.not_valid_after_utc.timestamp()),
        issued_at=now,
        own=own,
    )


def _state(row: CaCertificate) -> CaState:
    if row.revoked_at is None:
        return CaState.GOOD
    return CaState.HELD if row.reason == Reason.CERTIFICATE_HOLD else CaState.REVOKED


async def _changeable(tx: AsyncSession, serial: str) -> CaCertificate:
    row = await tx.get(CaCertificate, serial, with_for_update=True)
    if row is None or row.own:
        raise CaRefusedError("serial")
    return row


async def _count_change(tx: AsyncSession) -> None:
    status = (await tx.execute(select(CaStatus).with_for_update())).scalar_one()
    status.changes += 1


async def _by_request(tx: AsyncSession, request_id: str) -> CaCertificate | None:
    query = select(CaCertificate).where(CaCertificate.request_id == request_id).with_for_update()
    return (await tx.execute(query)).scalar_one_or_none()


async def _last_crl(tx: AsyncSession) -> CaCrl | None:
    return (await tx.execute(select(CaCrl).order_by(CaCrl.number.desc()).limit(1))).scalar_one_or_none()


def _public_key(der: bytes) -> PublicKey:
    try:
        key = load_der_public_key(der)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CaRefusedError("key") from None
    if algorithm_of(key) is None:
        raise CaRefusedError("key")
    return key  # type: ignore[return-value] # algorithm_of lets RSA and EC keys through only

"""The built-in CA: real X.509 (RFC 5280), with a list of its own of everything it issued.

Its list and its CRLs are tables that nothing else in the portal writes. Every call is its own transaction: what the CA
has done stays done when the portal's next transaction fails, as with any CA.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID
from sqlalchemy import select

from portal.ca.authority import CaRefusedError, IssueRequest, Reason
from portal.ca.profiles import PROFILES, key_usage
from portal.ca.x509 import algorithm_of, key_hash
from portal.store.tables import CaCertificate, CaCrl

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.ca.x509 import PublicKey
    from portal.clock import Clock
    from portal.keys import KeyPort
    from portal.store.database import Database

CRL_PATH: Final = "/ca/inlay.crl"
CERTIFICATE_PATH: Final = "/ca/inlay.cer"
CRL_LIFETIME: Final = 86_400
_CA_YEARS: Final = 20
_CA_REQUEST: Final = "ca"
_BACKDATED: Final = 300
"""Seconds before the time of issue that a certificate is valid from: clocks differ."""
_NAME_LIMIT: Final = 64
"""ub-common-name (RFC 5280, appendix A)."""


class BuiltinCa:
    """The built-in CA.

    Args:
        database: where its list is.
        keys: has its key.
        clock: its time.
        origin: of the portal, for the addresses of CRL and CA certificate.
        name: common name of the CA's certificate.
    """

    def __init__(self, database: Database, keys: KeyPort, clock: Clock, origin: str, name: str) -> None:
        self._database = database
        self._key = keys.ca()
        self._clock = clock
        self._origin = origin
        self._name = name
        self._own: x509.Certificate | None = None

    async def certificate(self) -> bytes:
        """The CA's own certificate, DER; made at the first question."""
        return (await self._root()).public_bytes(Encoding.DER)

    async def issue(self, request: IssueRequest) -> bytes:
        """Issue a certificate, DER; the same request id is the same certificate.

        Raises:
            CaRefusedError: ``profile``, ``key``, ``validity``, or ``request_reused``: the id with another key.
        """
        root = await self._root()
        profile = PROFILES.get(request.profile)
        if profile is None:
            raise CaRefusedError("profile")
        key = _public_key(request.public_key)
        hashed = key_hash(request.public_key)
        async with self._database.write() as tx:
            known = await _by_request(tx, request.request_id)
            if known is not None:
                if known.key_hash != hashed:
                    raise CaRefusedError("request_reused")
                return known.der
            certificate = self._sign(request, key, root)
            der = certificate.public_bytes(Encoding.DER)
            tx.add(
                CaCertificate(
                    serial=f"{certificate.serial_number:x}",
                    request_id=request.request_id,
                    key_hash=hashed,
                    der=der,
                    not_after=request.not_after,
                    issued_at=self._clock(),
                )
            )
        return der

    async def find(self, *, request_id: str | None = None, key_hash: str | None = None) -> list[bytes]:
        """Certificates issued for a request id or for a key."""
        query = select(CaCertificate.der)
        if request_id is not None:
            query = query.where(CaCertificate.request_id == request_id)
        if key_hash is not None:
            query = query.where(CaCertificate.key_hash == key_hash)
        async with self._database.read() as tx:
            return list(await tx.scalars(query))

    async def revoke(self, serial: str, reason: Reason) -> None:
        """Revoke a certificate, and publish it in a new CRL.

        Raises:
            CaRefusedError: ``serial``: not one of this CA's.
        """
        root = await self._root()
        async with self._database.write() as tx:
            row = await tx.get(CaCertificate, serial, with_for_update=True)
            if row is None or row.request_id == _CA_REQUEST:
                raise CaRefusedError("serial")
            if row.revoked_at is not None:
                return
            row.revoked_at, row.reason = self._clock(), reason.value
            await tx.flush()
            await self._publish(tx, root)

    async def crl(self) -> bytes:
        """The current CRL, DER; made anew when half of its life is gone."""
        root = await self._root()
        async with self._database.read() as tx:
            last = await _last_crl(tx)
            if last is not None and self._clock() < last.this_update + CRL_LIFETIME // 2:
                return last.der
        async with self._database.write() as tx:
            return await self._publish(tx, root)

    async def _root(self) -> x509.Certificate:
        if self._own is None:
            async with self._database.write() as tx:
                row = await _by_request(tx, _CA_REQUEST)
                if row is None:
                    row = self._self_signed()
                    tx.add(row)
            self._own = x509.load_der_x509_certificate(row.der)
        return self._own

    def _self_signed(self) -> CaCertificate:
        now = self._clock()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name[:_NAME_LIMIT])])
        public = self._key.public_key()
        until = now + _CA_YEARS * 365 * 86_400
        builder = (
            _builder(name, name, public, now, until)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_ca_usage(), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )
        certificate = builder.sign(self._key, hashes.SHA384())
        der = certificate.public_bytes(Encoding.DER)
        serial = f"{certificate.serial_number:x}"
        return CaCertificate(
            serial=serial, request_id=_CA_REQUEST, key_hash="", der=der, not_after=until, issued_at=now
        )

    def _sign(self, request: IssueRequest, key: PublicKey, root: x509.Certificate) -> x509.Certificate:
        now = self._clock()
        if not now < request.not_after <= root.not_valid_after_utc.timestamp():
            raise CaRefusedError("validity")
        profile = PROFILES[request.profile]
        point = x509.DistributionPoint(
            [x509.UniformResourceIdentifier(self._origin + CRL_PATH)], None, None, None
        )
        issuer = x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS,
            x509.UniformResourceIdentifier(self._origin + CERTIFICATE_PATH),
        )
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
            root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        )
        builder = (
            _builder(_name(request), root.subject, key, now, request.not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(profile, key), critical=True)
            .add_extension(x509.ExtendedKeyUsage(list(profile.purposes)), critical=False)
            .add_extension(_alternative_name(request), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(authority, critical=False)
            .add_extension(x509.CRLDistributionPoints([point]), critical=False)
            .add_extension(x509.AuthorityInformationAccess([issuer]), critical=False)
        )
        return builder.sign(self._key, hashes.SHA384())

    async def _publish(self, tx: AsyncSession, root: x509.Certificate) -> bytes:
        now = self._clock()
        last = await _last_crl(tx)
        number = (last.number if last else 0) + 1
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(root.subject)
            .last_update(_time(now))
            .next_update(_time(now + CRL_LIFETIME))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                    root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
                ),
                critical=False,
            )
        )
        revoked = select(CaCertificate).where(
            CaCertificate.revoked_at.is_not(None), CaCertificate.not_after >= now
        )
        for row in await tx.scalars(revoked.order_by(CaCertificate.revoked_at, CaCertificate.serial)):
            builder = builder.add_revoked_certificate(_revoked(row))
        der = builder.sign(self._key, hashes.SHA384()).public_bytes(Encoding.DER)
        tx.add(CaCrl(number=number, der=der, this_update=now, next_update=now + CRL_LIFETIME))
        return der


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


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: PublicKey | ec.EllipticCurvePublicKey,
    now: int,
    not_after: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())  # 159 random bits
        .not_valid_before(_time(now - _BACKDATED))
        .not_valid_after(_time(not_after))
    )


def _name(request: IssueRequest) -> x509.Name:
    common = request.subject.name[:_NAME_LIMIT]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common),
            x509.NameAttribute(NameOID.USER_ID, request.subject.user_id[:200]),
        ]
    )


def _alternative_name(request: IssueRequest) -> x509.SubjectAlternativeName:
    try:
        return x509.SubjectAlternativeName([x509.RFC822Name(request.subject.email)])
    except ValueError:
        raise CaRefusedError("email") from None


def _ca_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _revoked(row: CaCertificate) -> x509.RevokedCertificate:
    builder = (
        x509.RevokedCertificateBuilder()
        .serial_number(int(row.serial, 16))
        .revocation_date(_time(row.revoked_at or row.issued_at))
    )
    if row.reason and row.reason != Reason.UNSPECIFIED:  # RFC 5280 5.3.1: unspecified is left out
        builder = builder.add_extension(x509.CRLReason(x509.ReasonFlags(row.reason)), critical=False)
    return builder.build()


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)

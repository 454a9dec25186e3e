"""The certificates and lists that the built-in CA signs (RFC 5280): what stands in them.

Everything here is synchronous: a key in a hardware module makes signing slow, so callers run it in a thread.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from portal.ca.authority import CaRefusedError, Reason
from portal.ca.profiles import PROFILES, Profile, key_usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portal.ca.authority import IssueRequest
    from portal.ca.x509 import PublicKey

CRL_PATH: Final = "/ca/inlay.crl"
CERTIFICATE_PATH: Final = "/ca/inlay.cer"
OCSP_PATH: Final = "/ocsp"
CRL_LIFETIME: Final = 86_400
_CA_YEARS: Final = 20
_BACKDATED: Final = 300
"""Seconds before the time of issue that a certificate is valid from: clocks differ."""
_NAME_LIMIT: Final = 64
"""ub-common-name (RFC 5280, appendix A)."""
_CA_USAGE: Final = x509.KeyUsage(
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
_RESPONDER: Final = Profile(True, False, False, (ExtendedKeyUsageOID.OCSP_SIGNING,))


class Revoked(NamedTuple):
    """An entry of a CRL.

    Attributes:
        serial: in hexadecimal.
        at: since when.
        reason: why; ``certificateHold`` for one on hold.
    """

    serial: str
    at: int
    reason: Reason


class Signer(NamedTuple):
    """Who signs.

    Attributes:
        certificate: the CA's own.
        key: its private key.
        origin: of the portal, for the addresses of CRL, OCSP responder and CA certificate.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    origin: str


def root(name: str, key: ec.EllipticCurvePrivateKey, now: int) -> x509.Certificate:
    """The CA's own certificate, signed by itself."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_NAME_LIMIT])])
    public = key.public_key()
    builder = (
        _builder(subject, subject, public, now, now + _CA_YEARS * 365 * 86_400)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    return builder.sign(key, hashes.SHA384())


def leaf(signer: Signer, request: IssueRequest, key: PublicKey, now: int) -> x509.Certificate:
    """A certificate for a key of a card.

    Raises:
        CaRefusedError: ``profile``, ``validity`` or ``email``.
    """
    profile = PROFILES.get(request.profile)
    if profile is None:
        raise CaRefusedError("profile")
    if not now < request.not_after <= signer.certificate.not_valid_after_utc.timestamp():
        raise CaRefusedError("validity")
    addresses = x509.AuthorityInformationAccess(
        [
            _address(AuthorityInformationAccessOID.OCSP, signer.origin + OCSP_PATH),
            _address(AuthorityInformationAccessOID.CA_ISSUERS, signer.origin + CERTIFICATE_PATH),
        ]
    )
    point = x509.DistributionPoint(
        [x509.UniformResourceIdentifier(signer.origin + CRL_PATH)], None, None, None
    )
    builder = (
        _end_entity(signer, _name(request), key, profile, now, request.not_after)
        .add_extension(_alternative_name(request), critical=False)
        .add_extension(x509.CRLDistributionPoints([point]), critical=False)
        .add_extension(addresses, critical=False)
    )
    return builder.sign(signer.key, hashes.SHA384())


def responder(signer: Signer, key: ec.EllipticCurvePublicKey, now: int, not_after: int) -> x509.Certificate:
    """A certificate for the OCSP responder's key (RFC 6960, 4.2.2.2).

    It carries id-pkix-ocsp-nocheck and no address: who asks it about others doesn't ask about itself, and its short
    life stands for its revocation.
    """
    common = signer.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{common!s} OCSP"[:_NAME_LIMIT])])
    builder = _end_entity(signer, name, key, _RESPONDER, now, not_after)
    return builder.add_extension(x509.OCSPNoCheck(), critical=False).sign(signer.key, hashes.SHA384())


def crl(signer: Signer, number: int, entries: Iterable[Revoked], now: int) -> bytes:
    """A whole CRL (never a delta), DER: what is released or expired for long isn't on it."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.certificate.subject)
        .last_update(moment(now))
        .next_update(moment(now + CRL_LIFETIME))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority(signer.certificate), critical=False)
    )
    for entry in entries:
        builder = builder.add_revoked_certificate(_entry(entry))
    return builder.sign(signer.key, hashes.SHA384()).public_bytes(Encoding.DER)


def moment(seconds: int) -> datetime.datetime:
    """A time as X.509 has it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def serial_of(certificate: x509.Certificate) -> str:
    """A certificate's serial number as the tables have it: hexadecimal, lower case."""
    return f"{certificate.serial_number:x}"


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, now: int, not_after: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())  # 159 random bits
        .not_valid_before(moment(now - _BACKDATED))
        .not_valid_after(moment(not_after))
    )


def _end_entity(
    signer: Signer, name: x509.Name, key: PublicKey, profile: Profile, now: int, not_after: int
) -> x509.CertificateBuilder:
    return (
        _builder(name, signer.certificate.subject, key, now, not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(profile, key), critical=True)
        .add_extension(x509.ExtendedKeyUsage(list(profile.purposes)), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_authority(signer.certificate), critical=False)
    )


def _authority(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _address(method: x509.ObjectIdentifier, url: str) -> x509.AccessDescription:
    return x509.AccessDescription(method, x509.UniformResourceIdentifier(url))


def _name(request: IssueRequest) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, request.subject.name[:_NAME_LIMIT]),
            x509.NameAttribute(NameOID.USER_ID, request.subject.user_id[:200]),
        ]
    )


def _alternative_name(request: IssueRequest) -> x509.SubjectAlternativeName:
    try:
        return x509.SubjectAlternativeName([x509.RFC822Name(request.subject.email)])
    except ValueError:
        raise CaRefusedError("email") from None


def _entry(entry: Revoked) -> x509.RevokedCertificate:
    builder = (
        x509.RevokedCertificateBuilder()
        .serial_number(int(entry.serial, 16))
        .revocation_date(moment(entry.at))
    )
    if entry.reason is not Reason.UNSPECIFIED:  # RFC 5280 5.3.1: unspecified is left out
        builder = builder.add_extension(x509.CRLReason(x509.ReasonFlags(entry.reason)), critical=False)
    return builder.build()

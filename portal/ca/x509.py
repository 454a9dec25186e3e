"""Small readings of certificates and keys that several parts need."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from protocol.errors import InlayError
from protocol.messages import Algorithm

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
_PUBLIC_EXPONENT = 65537


@dataclass(frozen=True, slots=True)
class Facts:
    """What the store keeps of a certificate beside its DER."""

    serial: str
    subject: str
    issuer: str
    not_before: int
    not_after: int
    key_hash: str


def facts(der: bytes) -> Facts:
    """Read a certificate.

    Raises:
        ValueError: it can't be read: a card may hold anything.
        InlayError: ``internal``: its key is of a kind that no card of ours has.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        return Facts(
            serial=f"{certificate.serial_number:x}",
            subject=certificate.subject.rfc4514_string()[:400],
            issuer=certificate.issuer.rfc4514_string()[:400],
            not_before=int(certificate.not_valid_before_utc.timestamp()),
            not_after=int(certificate.not_valid_after_utc.timestamp()),
            key_hash=key_hash(spki(public_key_of(der))),
        )
    except (TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise ValueError("certificate") from error


def public_key_of(der: bytes) -> PublicKey:
    """The public key of a certificate that this portal stored."""
    key = x509.load_der_x509_certificate(der).public_key()
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise InlayError("internal")
    return key


def spki(key: PublicKey) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_hash(public_key: bytes) -> str:
    """SHA-256 of a SubjectPublicKeyInfo, hexadecimal."""
    return hashlib.sha256(public_key).hexdigest()


def algorithm_of(key: object) -> Algorithm | None:
    """The algorithm of a public key; None for one that no card of ours has."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size == 2048:
        return Algorithm.RSA_2048 if key.public_numbers().e == _PUBLIC_EXPONENT else None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return Algorithm.P_256
    return None


def verify_csr(der: bytes, algorithm: Algorithm, slot: str) -> bytes:
    """Check a PKCS#10: it proves its key, and the key is the one ordered. Its subject is nobody's business.

    Returns:
        SubjectPublicKeyInfo, DER.

    Raises:
        InlayError: ``request_invalid`` with the slot.
    """
    try:
        csr = x509.load_der_x509_csr(der)
        proved = csr.is_signature_valid
        key = csr.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise InlayError("request_invalid", slot=slot) from None
    if not proved:
        raise InlayError("request_invalid", slot=slot)
    return _ordered(key, algorithm, slot)


def verify_public_key(der: bytes, algorithm: Algorithm, slot: str) -> bytes:
    """Check a bare public key of a key that can't sign; it proves itself with its certificate later.

    Returns:
        SubjectPublicKeyInfo, DER.

    Raises:
        InlayError: ``request_invalid`` with the slot.
    """
    try:
        key = load_der_public_key(der)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InlayError("request_invalid", slot=slot) from None
    return _ordered(key, algorithm, slot)


def _ordered(key: object, algorithm: Algorithm, slot: str) -> bytes:
    if algorithm_of(key) is not algorithm or not isinstance(
        key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    ):
        raise InlayError("request_invalid", slot=slot)
    return spki(key)

"""Attestations, judged: a card's signed statement that it made a key itself, in the form of Yubico's cards.

A statement is a certificate of the slot's key, signed by the card's attestation key, whose own certificate leads to a
maker's root that the administrator configured. The agent passes it on and could lie: what counts is checked here.

Source: https://developers.yubico.com/PIV/Introduction/PIV_attestation.html
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from portal.ca.x509 import spki
from protocol.errors import InlayError
from protocol.messages import KeyPinPolicy, KeyTouchPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

_ARC: Final = "1.3.6.1.4.1.41482.3."
_FIRMWARE, _SERIAL, _POLICY = (x509.ObjectIdentifier(_ARC + number) for number in "378")
_LONGEST_CHAIN: Final = 5
"""Certificates of authorities in a chain, the card's own and the root counted."""
_NEVER, _ONCE, _ALWAYS, _MATCH_ONCE, _MATCH_ALWAYS = range(1, 6)
_PIN_POLICIES: Final = {
    "9C": (_ALWAYS, _MATCH_ALWAYS),
    "9E": (_NEVER, _ONCE, _ALWAYS, _MATCH_ONCE, _MATCH_ALWAYS),
}
_OTHER_PIN_POLICIES: Final = (_ONCE, _ALWAYS, _MATCH_ONCE, _MATCH_ALWAYS)
_WANTED_PIN: Final = {
    KeyPinPolicy.NEVER: (_NEVER,),
    KeyPinPolicy.ONCE: (_ONCE, _MATCH_ONCE),
    KeyPinPolicy.ALWAYS: (_ALWAYS, _MATCH_ALWAYS),
}
_WANTED_TOUCH: Final = {KeyTouchPolicy.NEVER: 1, KeyTouchPolicy.ALWAYS: 2, KeyTouchPolicy.CACHED: 3}
_TOUCH_POLICIES: Final = tuple(_WANTED_TOUCH.values())
_WEAK_RSA: Final = ((4, 0, 0), (4, 3, 5))
"""Firmware from, and before which RSA keys can be factored (CVE-2017-15361).

Yubico's advisory YSA-2017-01 names the first good version, 4.3.5, and the series 4, but no first bad one.
"""
_LEAST_RSA_BITS: Final = 2048
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_UNDERSTOOD: Final = (x509.BasicConstraints, x509.KeyUsage)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a statement has to say.

    Attributes:
        slot: the key's, as ``9A``.
        public_key: the key that was requested a certificate for, SubjectPublicKeyInfo.
        serial: the card's.
        pin_policy: when the key has to ask for the PIN; None: as often as the standard has it at the least.
        touch_policy: when it has to ask for a touch; None: however that is.
    """

    slot: str
    public_key: bytes
    serial: int
    pin_policy: KeyPinPolicy | None = None
    touch_policy: KeyTouchPolicy | None = None


@dataclass(frozen=True, slots=True)
class Roots:
    """Whom the administrator trusts to make cards.

    Attributes:
        anchors: self-signed certificates, where a chain ends.
        between: certificates of makers that lead to one of them.
    """

    anchors: tuple[x509.Certificate, ...] = ()
    between: tuple[x509.Certificate, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.anchors)


def roots(certificates: Sequence[x509.Certificate]) -> Roots:
    """Sort what is configured.

    Raises:
        ValueError: one is no authority's, or none is a root.
    """
    if not all(_is_authority(certificate) for certificate in certificates):
        raise ValueError("a certificate that is not a certificate authority's")
    anchors = tuple(each for each in certificates if _issued(each, each))
    if not anchors:
        raise ValueError("no root: none is self-signed")
    return Roots(anchors, tuple(each for each in certificates if each not in anchors))


def verify(statement: bytes, issuer: bytes, expected: Expected, trusted: Roots, now: int) -> str:
    """Verify a statement.

    Args:
        statement: the card's, DER.
        issuer: certificate of the card's attestation key, DER.
        expected: what it has to say.
        trusted: whom the administrator trusts.
        now: Unix time.

    Returns:
        The firmware version that the card states, as ``5.7.1``.

    Raises:
        InlayError: one ``attestation_…`` for each thing that isn't right, with the slot.
    """
    try:
        leaf, signer = x509.load_der_x509_certificate(statement), x509.load_der_x509_certificate(issuer)
        firmware = _three_numbers(leaf)
        chain = _chain(leaf, signer, trusted)
        if chain is None:
            raise InlayError("attestation_untrusted", slot=expected.slot)
        _check_time(chain, expected.slot, now)
        _check_said(leaf, expected, firmware)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion):
        raise InlayError("attestation_unreadable", slot=expected.slot) from None
    return ".".join(map(str, firmware))


def _chain(leaf: x509.Certificate, signer: x509.Certificate, trusted: Roots) -> list[x509.Certificate] | None:
    """From the statement to a root; None where it leads to none, or an authority on the way isn't allowed to."""
    if not _issued(leaf, signer) or _is_authority(leaf):
        return None
    paths = [[leaf, signer]]
    while paths:
        path = paths.pop()
        if path[-1] in trusted.anchors:
            if _fits_lengths(path):
                return path
            continue
        if len(path) <= _LONGEST_CHAIN:
            known = (*trusted.anchors, *trusted.between)
            paths += [[*path, each] for each in known if each not in path and _issued(path[-1], each)]
    return None


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether an authority signed a certificate, with a hash that is good today."""
    if not _is_authority(issuer) or not isinstance(certificate.signature_hash_algorithm, _HASHES):
        return False
    key = issuer.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _LEAST_RSA_BITS:
            return False
    elif not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    if any(each.critical and not isinstance(each.value, _UNDERSTOOD) for each in certificate.extensions):
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    constraints, usage = x509.BasicConstraints, x509.KeyUsage
    try:
        if not certificate.extensions.get_extension_for_class(constraints).value.ca:
            return False
        return certificate.extensions.get_extension_for_class(usage).value.key_cert_sign
    except x509.ExtensionNotFound as missing:
        return (
            missing.oid == usage.oid
        )  # who says nothing of the key's use leaves it open (RFC 5280, 4.2.1.3)


def _fits_lengths(path: Sequence[x509.Certificate]) -> bool:
    """No authority has more authorities below it than it may (RFC 5280, 4.2.1.9)."""
    for below, authority in enumerate(path[1:]):
        most = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        if most is not None and below > most:
            return False
    return True


def _check_time(chain: Sequence[x509.Certificate], slot: str, now: int) -> None:
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    for certificate in chain:
        if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
            raise InlayError("attestation_expired", slot=slot)


def _check_said(leaf: x509.Certificate, expected: Expected, firmware: tuple[int, ...]) -> None:
    key = leaf.public_key()
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) or spki(key) != expected.public_key:
        raise InlayError("attestation_other_key", slot=expected.slot)
    if _slot(leaf) != expected.slot:
        raise InlayError("attestation_other_slot", slot=expected.slot)
    if _integer(_extension(leaf, _SERIAL)) != expected.serial:
        raise InlayError("attestation_other_card", slot=expected.slot)
    policy = _extension(leaf, _POLICY) or b""
    allowed = _PIN_POLICIES.get(expected.slot, _OTHER_PIN_POLICIES)
    if expected.pin_policy is not None:
        allowed = _WANTED_PIN[expected.pin_policy]
    touches = _TOUCH_POLICIES if expected.touch_policy is None else (_WANTED_TOUCH[expected.touch_policy],)
    if len(policy) != 2 or policy[0] not in allowed or policy[1] not in touches:
        raise InlayError("attestation_policy", slot=expected.slot)
    first, fixed = _WEAK_RSA
    if isinstance(key, rsa.RSAPublicKey) and first <= firmware < fixed:
        raise InlayError("attestation_firmware", slot=expected.slot)


def _slot(leaf: x509.Certificate) -> str | None:
    """The last word of the subject's name: ``YubiKey PIV Attestation 9a``."""
    names = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    words = str(names[0].value).split() if len(names) == 1 else []
    return words[-1].upper() if words else None


def _three_numbers(leaf: x509.Certificate) -> tuple[int, ...]:
    raw = _extension(leaf, _FIRMWARE)
    if raw is None or len(raw) != 3:
        raise ValueError("firmware")
    return tuple(raw)


def _integer(raw: bytes | None) -> int | None:
    """A positive ASN.1 INTEGER with a length of one byte; None where it is something else."""
    if raw is None or len(raw) < 3 or raw[0] != 0x02 or raw[1] != len(raw) - 2 or raw[2] & 0x80:
        return None
    return int.from_bytes(raw[2:], "big")


def _extension(leaf: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes | None:
    try:
        value = leaf.extensions.get_extension_for_oid(oid).value
    except x509.ExtensionNotFound:
        return None
    return value.value if isinstance(value, x509.UnrecognizedExtension) else None

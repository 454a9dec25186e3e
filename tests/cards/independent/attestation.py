"""A maker that vouches for its cards, and what they state of their keys: Yubico's PIV attestation.

Sources: https://developers.yubico.com/PIV/Introduction/PIV_attestation.html and
https://docs.yubico.com/hardware/oid/oid-piv-arc.html: a certificate for the key in question, of random serial number,
with issuer and days of the attestation key's own, which lies in 5FFF01. The card's serial number is in it from
version 5.0 on (https://docs.yubico.com/yesdk/users-manual/application-piv/attestation.html).
"""

from __future__ import annotations

import datetime
import secrets
from functools import cache
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tests.cards.independent import keys, tlv
from tests.cards.independent.personality import ATTESTATION
from tests.cards.independent.status import Refused, Status

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    from tests.cards.independent.card import IndependentCard

_ARC: Final = "1.3.6.1.4.1.41482.3."
_P_256: Final = 0x11
_NEVER: Final = 1
_CERTIFICATE: Final = 0x5FFF01
_TELLS_SERIAL: Final = b"\x05\x00\x00"
_USB_A: Final = b"\x01"


@cache
def _root() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """The maker's key and its certificate."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = _name("Maker of independent cards")
    builder = _certificate(key.public_key(), name, name, 9000).add_extension(
        x509.BasicConstraints(ca=True, path_length=1), critical=True
    )
    return key, builder.sign(key, hashes.SHA384())


def root() -> x509.Certificate:
    """The maker's certificate, for whoever believes it."""
    return _root()[1]


def from_maker() -> tuple[keys.KeyPair, bytes]:
    """A card's attestation key, and its certificate as it lies in 5FFF01 (SP 800-73-4 part 1 table 10)."""
    maker, own = _root()
    pair = keys.KeyPair(_P_256, keys.generate(_P_256), imported=False, pin_policy=_NEVER)
    builder = _certificate(pair.private.public_key(), _name("PIV attestation"), own.subject, 4000)
    certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(
        maker, hashes.SHA256()
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    return pair, tlv.build(0x70, der) + tlv.build(0x71, b"\0") + tlv.build(0xFE, b"")


def statement(card: IndependentCard, slot: int, pair: keys.KeyPair) -> bytes:
    """What a card states of a key that was made on it, DER.

    Raises:
        Refused: there is no attestation key, or none that signs, or no certificate of it.
    """
    attesting = card.slots.get(ATTESTATION)
    private = None if attesting is None else attesting.private
    own = _own(card.objects.get(_CERTIFICATE, b""))
    if own is None or not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise Refused(Status.NOT_NOW)
    version, policies = card.personality.version, bytes([pair.pin_policy, pair.touch_policy])
    said = {"3": version, "8": policies, "9": _USB_A}
    if version >= _TELLS_SERIAL:
        number = int.from_bytes(card.serial)
        said["7"] = tlv.build(0x02, number.to_bytes(number.bit_length() // 8 + 1))
    builder = (
        x509.CertificateBuilder()
        .issuer_name(own.subject)
        .subject_name(_name(f"YubiKey PIV Attestation {slot:x}"))
        .public_key(pair.private.public_key())
        .serial_number(int.from_bytes(secrets.token_bytes(16)) >> 1 | 1)
        .not_valid_before(own.not_valid_before_utc)
        .not_valid_after(own.not_valid_after_utc)
    )
    for number_in_arc, value in sorted(said.items()):
        identifier = x509.ObjectIdentifier(_ARC + number_in_arc)
        builder = builder.add_extension(x509.UnrecognizedExtension(identifier, value), critical=False)
    return builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _own(content: bytes) -> x509.Certificate | None:
    """The certificate in 5FFF01, as far as there is one."""
    try:
        found = dict(tlv.parse(content)).get(0x70, b"")
        return x509.load_der_x509_certificate(found)
    except (tlv.Malformed, ValueError):
        return None


def _certificate(
    public: CertificatePublicKeyTypes, name: x509.Name, issuer: x509.Name, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

"""Attestation: a certificate in which the card says how a key came to be (Yubico's form).

Level *claimed*: the attestation key is made by the card's own software and certified by itself, so a
statement shows that this card said so, and no more. Every certificate here says so in its issuer's name.
"""

from __future__ import annotations

import datetime
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from agent.vsc import objects, tlv
from agent.vsc.commands import ATTESTATION, Algorithm, default_pin_policy
from agent.vsc.key_port import KeyPort
from agent.vsc.slot_keys import load_public
from agent.vsc.state import PersistentState, SlotKey

ISSUER_NAME: Final = "Inlay PIV attestation (claimed)"

_ARC: Final = "1.3.6.1.4.1.41482.3."
FIRMWARE_OID: Final = x509.ObjectIdentifier(_ARC + "3")
SERIAL_OID: Final = x509.ObjectIdentifier(_ARC + "7")
POLICY_OID: Final = x509.ObjectIdentifier(_ARC + "8")

_NEVER_TOUCHED: Final = 1
_SERIAL_BYTES: Final = 16
_VALIDITY: Final = datetime.timedelta(days=36_500)  # a statement is about the past: it doesn't grow old


def with_attestation(state: PersistentState, keys: KeyPort) -> PersistentState:
    """Give a card its attestation key, P-256, and a certificate for it, valid from today on."""
    key = keys.generate(state, ATTESTATION, Algorithm.P_256, default_pin_policy(ATTESTATION))
    begin = datetime.datetime.now(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    builder = issuer_builder(key, keys.random_bytes(_SERIAL_BYTES), begin, begin + _VALIDITY)
    der = keys.sign_certificate(state, key, builder)
    stored = {**state.objects, objects.CERTIFICATE_TAGS[ATTESTATION]: objects.certificate_object(der)}
    slots = {**state.slots, ATTESTATION: key}
    return msgspec.structs.replace(state, slots=slots, objects=stored, attested=True)


def issuer_builder(
    key: SlotKey, serial: bytes, begin: datetime.datetime, end: datetime.datetime
) -> x509.CertificateBuilder:
    """The attestation key's own certificate, to be signed by itself.

    Args:
        key: the attestation key.
        serial: 16 random bytes.
        begin: its first moment.
        end: its last moment; statements end with it too.
    """
    name = _name(ISSUER_NAME)
    usage = x509.KeyUsage(
        digital_signature=False,
        key_cert_sign=True,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = x509.CertificateBuilder(issuer_name=name).subject_name(name).public_key(load_public(key.public))
    return (
        builder.serial_number(_positive(serial))
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )


def statement_builder(
    key: SlotKey, issuer: x509.Certificate, serial: bytes, *, version: bytes, card_serial: bytes
) -> x509.CertificateBuilder:
    """A statement about a slot's key, to be signed by the attestation key.

    Args:
        key: a key that was made on the card.
        issuer: the certificate of the attestation key; its name and its dates are the statement's.
        serial: 16 random bytes.
        version: what GET VERSION says, 3 bytes.
        card_serial: what GET SERIAL says, 4 bytes.
    """
    number = tlv.encode(0x02, _shortest(card_serial))
    policy = bytes((key.pin_policy, _NEVER_TOUCHED))
    builder = x509.CertificateBuilder(issuer_name=issuer.subject)
    builder = (
        builder.subject_name(_name(f"Inlay PIV attestation {key.slot:02x}"))
        .public_key(load_public(key.public))
        .serial_number(_positive(serial))
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(issuer.not_valid_after_utc)
    )
    for oid, value in ((FIRMWARE_OID, version), (SERIAL_OID, number), (POLICY_OID, policy)):
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
    return builder


def issuer_in(value: bytes | None, key: SlotKey) -> x509.Certificate | None:
    """The certificate in the attestation object when it is that key's; else None."""
    der = None if value is None else objects.certificate_in(value)
    if der is None:
        return None
    try:
        certificate = x509.load_der_x509_certificate(der)
        fits = certificate.public_key() == load_public(key.public)
        certificate.subject.public_bytes()  # a name that can't be repeated can't be an issuer's
    except (ValueError, TypeError, UnsupportedAlgorithm, CryptographyDeprecationWarning):
        # the last where warnings are errors: what is tolerated now and refused by versions to come
        return None
    return certificate if fits else None


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _positive(serial: bytes) -> int:
    """A serial number of at most 128 bits, above zero (RFC 5280, section 4.1.2.2)."""
    return int.from_bytes(serial[:_SERIAL_BYTES], "big") >> 1 | 1


def _shortest(number: bytes) -> bytes:
    """The content of a positive ASN.1 INTEGER."""
    shortest = number.lstrip(b"\0") or b"\0"
    return b"\0" + shortest if shortest[0] & 0x80 else shortest

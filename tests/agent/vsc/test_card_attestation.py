"""Attestation says what is true, in Yubico's form, and no more than the card can know."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agent.vsc import objects, personalise, tlv
from agent.vsc.attestation import FIRMWARE_OID, ISSUER_NAME, POLICY_OID, SERIAL_OID
from agent.vsc.card import VirtualCard
from agent.vsc.commands import ATTESTATION, Algorithm
from tests.support.virtual_cards import PIN, empty_card, prove_management, store_in

SELECT = bytes.fromhex("00A4040005A000000308")


@pytest.fixture
def card(tmp_path: Path) -> VirtualCard:
    """A card without keys but its attestation key."""
    made = empty_card(store_in(tmp_path))
    made.transmit(SELECT)
    return made


def _attest(card: VirtualCard, slot: int) -> x509.Certificate:
    answer = card.transmit(bytes((0x00, 0xF9, slot, 0x00, 0x00, 0x00, 0x00)))
    assert answer[-2:] == b"\x90\x00"
    return x509.load_der_x509_certificate(answer[:-2])


def _issuer(card: VirtualCard) -> x509.Certificate:
    answer = card.transmit(bytes.fromhex("00CB3FFF0000055C035FFF010000"))
    der = objects.certificate_in(tlv.parse_one(answer[:-2], 0x53))
    assert der is not None
    return x509.load_der_x509_certificate(der)


def _extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes:
    found = certificate.extensions.get_extension_for_oid(oid).value
    assert isinstance(found, x509.UnrecognizedExtension)
    return found.value


def test_imported_key_is_not_attested(card: VirtualCard) -> None:
    """A key that was somewhere else: refused, whichever slot it is moved to."""
    pkcs8 = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    personalise.import_key(card, 0x9A, pkcs8)
    assert card.transmit(bytes.fromhex("00F99A00")) == b"\x6a\x80"
    prove_management(card)
    assert card.transmit(bytes.fromhex("00F6829A")) == b"\x90\x00"
    assert card.transmit(bytes.fromhex("00F98200")) == b"\x6a\x80"


def test_level_is_claimed(card: VirtualCard) -> None:
    """The attestation key vouches for itself, and its name says that nobody else does."""
    issuer = _issuer(card)
    issuer.verify_directly_issued_by(issuer)
    assert issuer.subject.rfc4514_string() == f"CN={ISSUER_NAME}"
    assert "claimed" in ISSUER_NAME
    assert issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_generated_key_is_attested(card: VirtualCard, algorithm: Algorithm) -> None:
    """Every algorithm: the slot's key, the card's number, version and policies, signed by F9."""
    public = personalise.generate(card, 0x9C, algorithm)
    statement, issuer = _attest(card, 0x9C), _issuer(card)
    statement.verify_directly_issued_by(issuer)
    assert statement.public_key() == public
    assert _extension(statement, FIRMWARE_OID) == bytes((5, 7, 1))
    serial = tlv.parse_one(_extension(statement, SERIAL_OID), 0x02)
    assert str(int.from_bytes(serial, "big")) == card.details().serial
    assert _extension(statement, POLICY_OID) == b"\x03\x01"
    assert statement.serial_number != _attest(card, 0x9C).serial_number


@pytest.mark.parametrize("algorithm", [Algorithm.RSA_2048, Algorithm.P_384, Algorithm.ED25519])
def test_another_attestation_key(card: VirtualCard, algorithm: Algorithm) -> None:
    """A host brings its own attestation key and certificate: statements are signed by that."""
    personalise.generate(card, 0x9A, Algorithm.P_256)
    prove_management(card)
    template = tlv.encode(0xAC, tlv.encode(0x80, bytes([algorithm])))
    assert card.transmit(b"\x00\x47\x00\xf9" + bytes([len(template)]) + template + b"\x00")[-2] in (
        0x90,
        0x61,
    )
    public = card._state.slots[ATTESTATION].public
    authority = ec.generate_private_key(ec.SECP256R1())
    old = _issuer(card)
    certificate = (
        x509.CertificateBuilder(issuer_name=old.subject)
        .subject_name(x509.Name.from_rfc4514_string("CN=Issued by a company"))
        .public_key(_signing_key(public))
        .serial_number(1)
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(old.not_valid_after_utc)
        .sign(authority, hashes.SHA256())
    )
    value = objects.certificate_object(certificate.public_bytes(serialization.Encoding.DER))
    data = bytes.fromhex("5C035FFF01") + tlv.encode(0x53, value)
    put = b"\x00\xdb\x3f\xff\x00" + len(data).to_bytes(2, "big") + data
    assert card.transmit(put) == b"\x90\x00"
    statement = _attest(card, 0x9A)
    statement.verify_directly_issued_by(certificate)
    assert statement.issuer.rfc4514_string() == "CN=Issued by a company"


def test_details_show_no_attestation_key(card: VirtualCard) -> None:
    """It is no key of the person's."""
    assert card.details().slots == ()
    personalise.generate(card, 0x9A, Algorithm.P_256)
    assert [slot.slot for slot in card.details().slots] == [0x9A]


def test_attesting_needs_neither_pin_nor_spends_any(card: VirtualCard) -> None:
    """A fresh PIN is still fresh afterwards."""
    personalise.generate(card, 0x9C, Algorithm.P_256)
    card.transmit(bytes.fromhex("0020008008") + PIN + b"\xff\xff")
    _attest(card, 0x9C)
    answer = card.transmit(bytes.fromhex("0087119C087C0682008102AABB00"))
    assert answer[-2:] == b"\x90\x00"


def _signing_key(public: bytes) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    return serialization.load_der_public_key(public)  # type: ignore[return-value]

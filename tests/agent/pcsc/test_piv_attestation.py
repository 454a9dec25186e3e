"""Statements not to be believed: another maker's, card's, key's, slot's; then a true one."""

from __future__ import annotations

import dataclasses
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from agent.pcsc.piv_attestation import Expected, Statement, verify
from agent.pcsc.piv_names import PinPolicy, TouchPolicy
from protocol.errors import InlayError

NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)
YEAR = datetime.timedelta(days=365)
ARC = "1.3.6.1.4.1.41482.3."
Key = ec.EllipticCurvePrivateKey


def key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def certificate(
    name: str, public: ec.EllipticCurvePublicKey, issuer: str, signer: Key, *, ca: bool, **extra: bytes
) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(issuer)).public_key(public)
    )
    builder = builder.serial_number(7).not_valid_before(NOW - YEAR).not_valid_after(NOW + YEAR)
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    for number, value in extra.items():
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(ARC + number[1:]), value)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signer, hashes.SHA256())


class Maker:
    """A maker of cards with a root, and one card of its."""

    def __init__(self) -> None:
        self.root_key, self.card_key, self.slot_key = key(), key(), key()
        self.root = certificate("Maker", self.root_key.public_key(), "Maker", self.root_key, ca=True)
        self.issuer = certificate("Card", self.card_key.public_key(), "Maker", self.root_key, ca=True)

    def statement(
        self, name: str = "Attestation 9a", serial: bytes = b"\x02\x02\x00\xff", **extra: bytes
    ) -> Statement:
        said = {"_3": b"\x05\x04\x03", "_7": serial, "_8": b"\x02\x01"} | extra
        leaf = certificate(name, self.slot_key.public_key(), "Card", self.card_key, ca=False, **said)
        return Statement(der(leaf), der(self.issuer))


def der(found: x509.Certificate) -> bytes:
    return found.public_bytes(serialization.Encoding.DER)


MAKER = Maker()
EXPECTED = Expected(0x9A, MAKER.slot_key.public_key(), 255, PinPolicy.ONCE, TouchPolicy.NEVER)


def refused(statement: Statement, expected: Expected = EXPECTED, now: datetime.datetime = NOW) -> str | int:
    with pytest.raises(InlayError) as caught:
        verify(statement, expected, [MAKER.root], now)
    assert caught.value.code == "card_attestation_invalid"
    return caught.value.fields["check"]


def test_a_chain_that_looks_the_same_and_is_forged_is_refused() -> None:
    forger = Maker()
    forger.slot_key = MAKER.slot_key
    assert refused(forger.statement()) == "chain"


def test_a_statement_signed_by_the_slots_own_key_is_refused() -> None:
    forger = Maker()
    forger.slot_key, forger.card_key, forger.issuer = MAKER.slot_key, MAKER.slot_key, MAKER.issuer
    assert refused(forger.statement()) == "chain"


def test_an_issuer_that_is_no_authority_is_refused() -> None:
    leaf = certificate("Card", MAKER.card_key.public_key(), "Maker", MAKER.root_key, ca=False)
    statement = dataclasses.replace(MAKER.statement(), issuer=der(leaf))
    assert refused(statement) == "chain"


def test_another_cards_statement_is_refused() -> None:
    other = Maker()
    other.issuer = certificate("Card", other.card_key.public_key(), "Maker", MAKER.root_key, ca=True)
    assert refused(other.statement()) == "key"
    other.slot_key = MAKER.slot_key
    assert refused(other.statement(serial=b"\x02\x01\x07")) == "serial"


@pytest.mark.parametrize("name", ["Attestation 9c", "9a x", "Attestation"])
def test_another_slots_statement_is_refused(name: str) -> None:
    assert refused(MAKER.statement(name)) == "slot"


@pytest.mark.parametrize("policy", [b"\x01\x01", b"\x02\x02", b"\x02", b"\x02\x01\x01"])
def test_another_policy_is_refused(policy: bytes) -> None:
    assert refused(MAKER.statement(_8=policy)) in ("policy", "chain")


def test_what_is_too_old_is_refused() -> None:
    assert refused(MAKER.statement(), now=NOW + 2 * YEAR) == "date"


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_refused(data: bytes, leaf: bool) -> None:
    good = MAKER.statement()
    bad = dataclasses.replace(good, statement=data) if leaf else dataclasses.replace(good, issuer=data)
    assert refused(bad) == "chain"


def test_a_true_statement_is_believed() -> None:
    assert verify(MAKER.statement(), EXPECTED, [Maker().root, MAKER.root], NOW) == "5.4.3"
    plain = dataclasses.replace(EXPECTED, serial=None, pin_policy=None, touch_policy=None)
    assert verify(MAKER.statement(_8=b"\x03\x03"), plain, [MAKER.root], NOW) == "5.4.3"

"""The independent card is one that other people's programs take for a card of its kind."""

from __future__ import annotations

import datetime
import os
import re
from typing import TYPE_CHECKING, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID
from smartcard.System import readers
from yubikit.core import TRANSPORT, InvalidPinError
from yubikit.core.smartcard import SmartCardConnection
from yubikit.piv import KEY_TYPE, OBJECT_ID, SLOT, PivSession

from agent.pcsc import scard
from tests.cards.independent import personality, tlv
from tests.cards.independent.card import IndependentCard
from tests.cards.independent.in_reader import EVERY_CARD
from tests.cards.independent.keys import KeyPair, generate
from tests.support.processes import wait_until
from tests.support.wired_card import WiredCard

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.pcscd import PrivatePcscd

pytestmark = pytest.mark.interop

PIN_TEXT: Final = "123456"
PUK_TEXT: Final = "12345678"
BY_NAME: Final = {kind.name: kind for kind in personality.PERSONALITIES}
AT_ONCE: Final = list(BY_NAME) if EVERY_CARD else ["pure 73-4 over T=0", "PivApplet-like", "Nitrokey-like"]
"""Kinds that each test is run with; all of them with ``CARDS=all``."""
WITH_VERSION: Final = [kind for kind in personality.PERSONALITIES if kind.version]


def wired(pcscd: PrivatePcscd, card: IndependentCard) -> AbstractContextManager[WiredCard]:
    return WiredCard(pcscd.vpcd_ports[0], card.transmit, card.personality.atr, reset=card.reset)


@pytest.fixture(params=AT_ONCE)
def card(request: pytest.FixtureRequest, pcscd: PrivatePcscd) -> Iterator[IndependentCard]:
    """A card of each kind, with a key and certificate in 9A, in the first reader."""
    made = IndependentCard(BY_NAME[request.param])
    fill(made)
    with wired(pcscd, made):
        wait_until(lambda: scard.list_readers()[0].present, "the card")
        yield made
    wait_until(lambda: not scard.list_readers()[0].present, "an empty reader")


def fill(card: IndependentCard) -> None:
    """Put keys and certificates, CHUID and CCC on it, as its maker would."""
    for slot, tag, algorithm in (
        (0x9A, 0x5FC105, 0x11),
        (0x9C, 0x5FC10A, 0x07),
        (0x9D, 0x5FC10B, 0x07),
        (0x9E, 0x5FC101, 0x11),
    ):
        policy = {0x9C: 3, 0x9E: 1}.get(slot, 2)
        card.slots[slot] = KeyPair(algorithm, generate(algorithm), False, policy)
        encoded = certificate(card.slots[slot]).public_bytes(serialization.Encoding.DER)
        card.objects[tag] = tlv.build(0x70, encoded) + tlv.build(0x71, b"\0") + tlv.build(0xFE)
    guid = bytes.fromhex("00112233445546778899AABBCCDDEEFF")
    card.objects[0x5FC102] = (
        tlv.build(0x30, bytes.fromhex("D4E739DA739CED39CE739D836858210842108421C84210C3EB"))
        + tlv.build(0x34, guid)
        + tlv.build(0x35, b"20300101")
        + tlv.build(0x3E)
        + tlv.build(0xFE)
    )


def certificate(pair: KeyPair) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Card Holder")])
    now = datetime.datetime.now(datetime.UTC)
    issuer = ec.generate_private_key(ec.SECP256R1())
    return (
        x509.CertificateBuilder(name, name, pair.private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(issuer, hashes.SHA256())
    )


def ran(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, (done.args, done.stdout, done.stderr)
    return done.stdout + done.stderr


def test_opensc_reads_card(card: IndependentCard, pcscd: PrivatePcscd) -> None:
    listed = ran(pcscd.run(["pkcs15-tool", "--reader", "0", "--list-certificates", "--list-keys"]))

    assert re.findall(r"(?m)^\tID +: (0\d)", listed) == ["01", "02", "03", "04"] * 2, listed
    read = ran(pcscd.run(["pkcs15-tool", "--reader", "0", "--read-certificate", "1"]))
    on_card = tlv.parse(card.objects[0x5FC105])[0][1]
    pem = read[read.index("-----BEGIN") :]
    assert x509.load_pem_x509_certificate(pem.encode()) == x509.load_der_x509_certificate(on_card)


def test_opensc_signs_and_decrypts(card: IndependentCard, pcscd: PrivatePcscd, tmp_path: Path) -> None:
    text, signed = tmp_path / "text", tmp_path / "signed"
    text.write_bytes(b"signed by a card")
    files = ["--input-file", str(text), "--output-file", str(signed), "--signature-format", "openssl"]
    tool = ["pkcs11-tool", "--slot-index", "0", "--login", "--pin", PIN_TEXT, *files]
    for identifier, mechanism, slot in (("01", "ECDSA-SHA256", 0x9A), ("02", "SHA256-RSA-PKCS", 0x9C)):
        ran(pcscd.run([*tool, "--sign", "--id", identifier, "--mechanism", mechanism]))
        public = card.slots[slot].private.public_key()
        if isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signed.read_bytes(), text.read_bytes(), ec.ECDSA(hashes.SHA256()))
        else:
            assert isinstance(public, rsa.RSAPublicKey)
            public.verify(signed.read_bytes(), text.read_bytes(), padding.PKCS1v15(), hashes.SHA256())
    agreeing = card.slots[0x9D].private.public_key()
    assert isinstance(agreeing, rsa.RSAPublicKey)
    text.write_bytes(agreeing.encrypt(b"for the card alone", padding.PKCS1v15()))
    ran(pcscd.run([*tool, "--decrypt", "--id", "03", "--mechanism", "RSA-PKCS"]))
    assert signed.read_bytes() == b"for the card alone"


def test_opensc_changes_and_unblocks_pin(card: IndependentCard, pcscd: PrivatePcscd) -> None:
    pin = card.secrets[0x80]
    tool = ["pkcs15-tool", "--reader", "0"]

    ran(pcscd.run([*tool, "--change-pin", "--auth-id", "01", "--pin", PIN_TEXT, "--new-pin", "246810"]))
    assert pin.value == b"246810\xff\xff"
    refused = pcscd.run([*tool, "--verify-pin", "--auth-id", "01", "--pin", "999999"])
    assert refused.returncode != 0
    assert pin.left == pin.tries - 1
    ran(pcscd.run([*tool, "--unblock-pin", "--auth-id", "01", "--puk", PUK_TEXT, "--new-pin", "135790"]))
    assert pin.value == b"135790\xff\xff"
    assert pin.left == pin.tries


def test_piv_tool_authenticates_and_writes(
    card: IndependentCard, pcscd: PrivatePcscd, tmp_path: Path
) -> None:
    """By mutual authentication: OpenSC 0.23 stops by itself before it answers a challenge, whatever the card.

    What it did is seen on the card: piv-tool 0.23 ends with the size of what it wrote as its exit code, and can't write
    the public key of a pair that it has made.
    """
    management = card.management
    secret, written = tmp_path / "key", tmp_path / "certificate.pem"
    secret.write_text(management.value.hex(":"))
    new = certificate(card.slots[0x9E])
    written.write_bytes(new.public_bytes(serialization.Encoding.PEM))
    tool = ["piv-tool", "--reader", "0", "--admin", f"M:9B:{management.algorithm:02X}"]
    environment = os.environ | {"PIV_EXT_AUTH_KEY": str(secret)}

    pcscd.run([*tool, "--cert", "9E", "--in", str(written)], env=environment)
    assert tlv.parse(card.objects[0x5FC101])[0][1] == new.public_bytes(serialization.Encoding.DER)

    before = card.slots[0x9A].private
    pcscd.run([*tool, "--genkey", "9A:11", "--out", str(tmp_path / "public")], env=environment)
    assert card.slots[0x9A].private is not before


def test_piv_tool_with_wrong_key_changes_nothing(
    card: IndependentCard, pcscd: PrivatePcscd, tmp_path: Path
) -> None:
    secret = tmp_path / "key"
    secret.write_text(bytes(len(card.management.value)).hex(":"))
    before = dict(card.slots)
    tool = ["piv-tool", "--reader", "0", "--admin", f"M:9B:{card.management.algorithm:02X}"]

    done = pcscd.run(
        [*tool, "--genkey", "9A:11", "--out", str(tmp_path / "public")],
        env=os.environ | {"PIV_EXT_AUTH_KEY": str(secret)},
    )

    assert done.returncode != 0
    assert card.slots == before
    assert (0x87, card.personality.wrong_management) in card.journal


@pytest.mark.parametrize("card", [kind.name for kind in WITH_VERSION if kind.serial], indirect=True)
def test_yubico_piv_tool_sees_and_changes(card: IndependentCard, pcscd: PrivatePcscd) -> None:
    tool = ["yubico-piv-tool", "--reader", pcscd.readers[0]]

    status = ran(pcscd.run([*tool, "--action", "status"]))
    assert ".".join(str(part) for part in card.personality.version) in status
    assert f"PIN tries left:\t{card.secrets[0x80].tries}" in status
    ran(pcscd.run([*tool, "-a", "verify-pin", "-P", PIN_TEXT]))
    ran(pcscd.run([*tool, "-a", "change-pin", "-P", PIN_TEXT, "-N", "246810"]))
    ran(pcscd.run([*tool, "-a", "change-puk", "-P", PUK_TEXT, "-N", "87654321"]))
    ran(pcscd.run([*tool, "-a", "unblock-pin", "-P", "87654321", "-N", "135790"]))
    assert card.secrets[0x80].value == b"135790\xff\xff"
    assert card.secrets[0x81].value == b"87654321"


class Connection(SmartCardConnection):
    """yubikit over PC/SC, for a reader of any name.

    ykman can't be had: it takes a card with an ATR like a YubiKey's for one only in a reader of Yubico's name.
    """

    def __init__(self) -> None:
        self._inner = readers()[0].createConnection()
        self._inner.connect()

    @property
    def transport(self) -> TRANSPORT:
        return TRANSPORT.USB

    def close(self) -> None:
        self._inner.release()  # else its context ends with the garbage, behind pcscd

    def send_and_receive(self, apdu: bytes) -> tuple[bytes, int]:
        data, sw1, sw2 = self._inner.transmit(list(apdu))
        return bytes(data), sw1 << 8 | sw2


@pytest.fixture
def yubikit(card: IndependentCard, pcscd: PrivatePcscd) -> Iterator[PivSession]:
    connection = Connection()
    yield PivSession(connection)
    connection.close()


KNOWN_TO_YUBIKIT: Final = ["PivApplet-like", "YubiKey 4-like", "YubiKey 5.3-like", "YubiKey 5.7-like"]


@pytest.mark.parametrize("card", KNOWN_TO_YUBIKIT, indirect=True)
def test_yubikit_makes_keys_and_uses_them(card: IndependentCard, yubikit: PivSession) -> None:
    yubikit.authenticate(card.management.value)
    for slot, kind in ((SLOT.AUTHENTICATION, KEY_TYPE.ECCP256), (SLOT.SIGNATURE, KEY_TYPE.RSA2048)):
        public = yubikit.generate_key(slot, kind)
        assert public == card.slots[slot].private.public_key()
        yubikit.verify_pin(PIN_TEXT)
        signature = yubikit.sign(slot, kind, b"by yubikit", hashes.SHA256(), padding.PKCS1v15())
        if isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, b"by yubikit", ec.ECDSA(hashes.SHA256()))
        else:
            assert isinstance(public, rsa.RSAPublicKey)
            public.verify(signature, b"by yubikit", padding.PKCS1v15(), hashes.SHA256())
    imported = ec.generate_private_key(ec.SECP256R1())
    yubikit.put_key(SLOT.KEY_MANAGEMENT, imported)
    peer = ec.generate_private_key(ec.SECP256R1())
    yubikit.verify_pin(PIN_TEXT)
    agreed = yubikit.calculate_secret(SLOT.KEY_MANAGEMENT, peer.public_key())
    assert agreed == peer.exchange(ec.ECDH(), imported.public_key())
    written = certificate(card.slots[0x9D])
    yubikit.put_certificate(SLOT.KEY_MANAGEMENT, written)
    assert yubikit.get_certificate(SLOT.KEY_MANAGEMENT) == written


@pytest.mark.parametrize("card", KNOWN_TO_YUBIKIT[1:], indirect=True)
def test_yubikit_changes_and_blocks_and_resets(card: IndependentCard, yubikit: PivSession) -> None:
    """A PivApplet says 6A86 of a reference it doesn't know, which yubikit's question before a reset doesn't stand."""
    yubikit.change_pin(PIN_TEXT, "246810")
    yubikit.change_puk(PUK_TEXT, "87654321")
    yubikit.unblock_pin("87654321", "135790")
    for left in reversed(range(card.secrets[0x80].tries)):
        with pytest.raises(InvalidPinError) as wrong:
            yubikit.verify_pin("000000")
        assert wrong.value.attempts_remaining == left
    for _ in range(card.secrets[0x81].tries):
        with pytest.raises(InvalidPinError):
            yubikit.unblock_pin("00000000", "135790")
    yubikit.reset()
    assert card.secrets[0x80].value == b"123456\xff\xff"
    assert not card.slots.keys() - {0xF9}
    assert not card.objects.get(OBJECT_ID.AUTHENTICATION)


@pytest.mark.parametrize("card", ["YubiKey 5.7-like"], indirect=True)
def test_yubikit_uses_what_came_with_5_7(card: IndependentCard, yubikit: PivSession) -> None:
    yubikit.authenticate(card.management.value)
    public = yubikit.generate_key(SLOT.RETIRED1, KEY_TYPE.ED25519)
    yubikit.move_key(SLOT.RETIRED1, SLOT.RETIRED2)
    assert yubikit.get_slot_metadata(SLOT.RETIRED2).public_key == public
    yubikit.delete_key(SLOT.RETIRED2)
    assert 0x82 not in card.slots
    assert 0x83 not in card.slots
    made = yubikit.generate_key(SLOT.RETIRED3, KEY_TYPE.ECCP256)
    assert yubikit.attest_key(SLOT.RETIRED3).public_key() == made
    yubikit.set_management_key(yubikit.management_key_type, bytes(range(24)))
    assert card.management.value == bytes(range(24))

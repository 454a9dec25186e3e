"""The host's PIV driver over real pcscd and vpcd: a card it encodes others use, a card others encode it extends."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from yubikit.core.smartcard import ApduError
from yubikit.piv import KEY_TYPE, MANAGEMENT_KEY_TYPE, OBJECT_ID, SLOT, PivSession

from agent.pcsc import (
    piv_attestation,
    piv_authenticate,
    piv_cipher,
    piv_keys,
    piv_objects,
    piv_pin,
    piv_select,
    piv_use,
    scard,
)
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import CHUID, KeyAlgorithm, ManagementAlgorithm, PinPolicy
from agent.vsc import personalise
from agent.vsc.card import VirtualCard
from portal.ca import attestation
from protocol.errors import InlayError
from tests.support import foreign_connections
from tests.support.card_checks import module
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import wait_until
from tests.support.virtual_cards import PIN, PUK, InReader, Issuer, empty_card, store_in

pytestmark = pytest.mark.interop

KEY = bytes(range(32))
NEW_PIN, NEW_PUK = b"24681012", b"13579135"
EXPIRES = datetime.date(2031, 1, 31)


@pytest.fixture
def own(tmp_path: Path) -> VirtualCard:
    made = empty_card(store_in(tmp_path))
    personalise.activate(made)
    return made


@pytest.fixture
def reader(pcscd: PrivatePcscd, own: VirtualCard) -> Iterator[str]:
    wait_until(lambda: not any(item.present for item in scard.list_readers()), "empty readers")
    with InReader(own, pcscd.vpcd_port):
        wait_until(lambda: scard.list_readers()[0].present, "the card in its reader")
        yield pcscd.readers[0]


@pytest.fixture
def card(reader: str) -> Iterator[CardConnection]:
    with scard.Context() as context, CardConnection(context.connect(reader), reader) as connection:
        piv_select.select(connection)
        yield connection


@contextlib.contextmanager
def yubikit(reader: str) -> Iterator[PivSession]:
    with foreign_connections.yubikit(reader) as wrapped:
        yield PivSession(wrapped)


def prove(card: CardConnection, own: VirtualCard) -> None:
    """The portal's part is played by the card's own key store: the key never comes here."""
    [algorithm] = piv_select.management_algorithms(card)
    question = piv_authenticate.ask(card, algorithm)
    answer = own.answer_management_challenge(question.data)
    piv_authenticate.prove(card, question, piv_authenticate.Proof(answer))


def encode(card: CardConnection, own: VirtualCard) -> dict[int, bytes]:
    """A whole encoding, as an order has it; the certificates by slot."""
    issuer, written = Issuer(), {}
    with card.held():
        piv_select.select(card)
        prove(card, own)
        piv_authenticate.set_key(card, ManagementAlgorithm.AES_256, KEY)
        piv_objects.write_chuid(card, piv_objects.fresh_chuid(EXPIRES))
        piv_objects.write_ccc(card)
        for slot, algorithm in (
            (0x9A, KeyAlgorithm.P_256),
            (0x9C, KeyAlgorithm.RSA_2048),
            (0x9D, KeyAlgorithm.P_384),
            (0x82, KeyAlgorithm.P_256),
        ):
            public = piv_keys.generate(card, slot, algorithm)
            written[slot] = issuer.issue(public, slot)
            piv_objects.write_certificate(card, slot, written[slot])
        piv_objects.write_key_history(card, piv_objects.KeyHistory(1, 0))
        piv_pin.change(card, 0x80, PIN, NEW_PIN)
        piv_pin.change(card, 0x81, PUK, NEW_PUK)
    return written


def test_a_wrong_pin_and_key_over_pcscd(card: CardConnection) -> None:
    with pytest.raises(InlayError) as caught:
        piv_pin.verify(card, b"000000")
    assert (caught.value.code, caught.value.fields) == ("card_pin_wrong", {"tries": 2})
    [algorithm] = piv_select.management_algorithms(card)
    question = piv_authenticate.ask(card, algorithm)
    with pytest.raises(InlayError) as caught:
        piv_authenticate.prove(card, question, piv_cipher.answer(bytes(algorithm.key_bytes), question))
    assert caught.value.code == "card_management_wrong"
    assert piv_pin.tries_left(card) == 2


def test_what_we_encode_others_read_and_use(
    card: CardConnection, own: VirtualCard, reader: str, pcscd: PrivatePcscd
) -> None:
    before = piv_objects.read_chuid(card)
    written = encode(card, own)
    after = piv_objects.read_chuid(card)
    assert before is not None
    assert after is not None
    assert after.guid != before.guid
    _read_by_yubikit(reader, written, after)
    _used_by_opensc(pcscd, written)
    with card.held():
        question = piv_authenticate.ask(card, ManagementAlgorithm.AES_256, mutual=True)
        piv_authenticate.prove(card, question, piv_cipher.answer(KEY, question))
        piv_pin.verify(card, NEW_PIN)
        signature = piv_use.sign_sha256(card, 0x9C, KeyAlgorithm.RSA_2048, b"ours")
    public = x509.load_der_x509_certificate(written[0x9C]).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(signature, b"ours", padding.PKCS1v15(), hashes.SHA256())


def _read_by_yubikit(reader: str, written: dict[int, bytes], chuid: piv_objects.Chuid) -> None:
    with yubikit(reader) as session:
        for slot, der in written.items():
            found = session.get_certificate(SLOT(slot))
            assert found.public_bytes(serialization.Encoding.DER) == der
            assert session.get_slot_metadata(SLOT(slot)).public_key == found.public_key()
        assert piv_objects.chuid_in(session.get_object(OBJECT_ID.CHUID)) == chuid
        with pytest.raises(ApduError):
            session.authenticate(bytes(32))
        session.authenticate(KEY)
        session.verify_pin(NEW_PIN.decode())
        signature = session.sign(SLOT.AUTHENTICATION, KEY_TYPE.ECCP256, b"theirs", hashes.SHA256())
    public = x509.load_der_x509_certificate(written[0x9A]).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(signature, b"theirs", ec.ECDSA(hashes.SHA256()))


def _used_by_opensc(pcscd: PrivatePcscd, written: dict[int, bytes]) -> None:
    listed = pcscd.run(["pkcs15-tool", "--list-certificates"])
    assert listed.stdout.count("X.509 Certificate [") == len(written), listed.stdout + listed.stderr
    argv = ["pkcs11-tool", "--module", str(module()), "--login", "--pin", NEW_PIN.decode(), "--test"]
    tested = pcscd.run(argv)
    assert "No errors" in tested.stdout, tested.stdout + tested.stderr


def test_what_yubikit_encodes_we_read_and_extend(card: CardConnection, own: VirtualCard, reader: str) -> None:
    with card.held():
        prove(card, own)
        piv_authenticate.set_key(card, ManagementAlgorithm.AES_256, KEY)
    issuer, guid = Issuer(), bytes(range(16))
    with yubikit(reader) as session:
        session.authenticate(KEY)
        public = session.generate_key(SLOT.AUTHENTICATION, KEY_TYPE.ECCP256)
        old = issuer.issue(public, 0x9A)
        session.put_certificate(SLOT.AUTHENTICATION, x509.load_der_x509_certificate(old), compress=True)
        session.put_object(OBJECT_ID.CHUID, b"\x34\x10" + guid + b"\x35\x0820300101\x3e\x00\xfe\x00")
        session.set_management_key(MANAGEMENT_KEY_TYPE.AES192, KEY[:24])
    with card.held():
        piv_select.select(card)
        chuid = piv_objects.read_chuid(card)
        assert chuid is not None
        assert (chuid.guid, chuid.expires) == (guid, datetime.date(2030, 1, 1))
        assert piv_objects.read_certificate(card, 0x9A) == old
        told = piv_keys.metadata(card, 0x9A)
        assert told is not None
        assert (told.algorithm, told.generated, told.public) == (KeyAlgorithm.P_256, True, public)
        question = piv_authenticate.ask(card, ManagementAlgorithm.AES_192)
        piv_authenticate.prove(card, question, piv_cipher.answer(KEY[:24], question))
        fresh = issuer.issue(public, 0x9A)
        piv_objects.write_certificate(card, 0x9A, fresh)  # the same key, certified anew
        assert piv_objects.read_certificate(card, 0x9A) == fresh
        assert piv_keys.metadata(card, 0x9A) == told


def test_a_blocked_pin_is_unblocked_and_keys_are_deleted(card: CardConnection, own: VirtualCard) -> None:
    for _ in range(3):
        with pytest.raises(InlayError):
            piv_pin.verify(card, b"000000")
    assert piv_pin.tries_left(card) == 0
    piv_pin.unblock(card, PUK, NEW_PIN)
    prove(card, own)
    private = ec.generate_private_key(ec.SECP256R1())
    piv_keys.import_key(card, 0x83, private, pin_policy=PinPolicy.ONCE)
    piv_pin.verify(card, NEW_PIN)
    own_key = ec.generate_private_key(ec.SECP256R1())
    point = own_key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    agreed = piv_use.agree(card, 0x83, KeyAlgorithm.P_256, point)
    assert agreed == own_key.exchange(ec.ECDH(), private.public_key())
    piv_keys.delete(card, 0x83)
    assert piv_keys.metadata(card, 0x83) is None


def test_an_rsa_key_that_we_bring_decrypts_for_others(
    card: CardConnection, own: VirtualCard, reader: str, pcscd: PrivatePcscd, tmp_path: Path
) -> None:
    private = rsa.generate_private_key(65537, 2048)
    public = private.public_key()
    with card.held():
        prove(card, own)
        piv_authenticate.set_key(card, ManagementAlgorithm.AES_256, KEY)
        piv_keys.import_key(card, 0x9D, private)
        piv_objects.write_certificate(card, 0x9D, Issuer().issue(public, 0x9D))
        told = piv_keys.metadata(card, 0x9D)
    assert told is not None
    assert (told.algorithm, told.generated, told.public) == (KeyAlgorithm.RSA_2048, False, public)
    with yubikit(reader) as session:
        session.verify_pin(PIN.decode())
        hidden = public.encrypt(b"for yubikit", padding.PKCS1v15())
        assert session.decrypt(SLOT.KEY_MANAGEMENT, hidden, padding.PKCS1v15()) == b"for yubikit"
    secret, plain = tmp_path / "secret", tmp_path / "plain"
    secret.write_bytes(public.encrypt(b"for OpenSC", padding.PKCS1v15()))
    argv = ["pkcs11-tool", "--module", str(module()), "--login", "--pin", PIN.decode(), "--decrypt"]
    argv += [
        "--mechanism",
        "RSA-PKCS",
        "--id",
        "03",
        "--input-file",
        str(secret),
        "--output-file",
        str(plain),
    ]
    done = pcscd.run(argv)
    assert plain.read_bytes() == b"for OpenSC", done.stdout + done.stderr


def test_a_key_made_on_the_card_is_attested(card: CardConnection, own: VirtualCard) -> None:
    serial = piv_select.probe(card).serial
    assert serial is not None
    prove(card, own)
    public = piv_keys.generate(card, 0x9A, KeyAlgorithm.P_256)
    said, issuer = piv_attestation.statement(card, 0x9A), piv_attestation.issuer(card)
    assert issuer is not None
    makers = attestation.roots([x509.load_der_x509_certificate(issuer)])
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    expected = attestation.Expected("9A", public.public_bytes(*form), serial)
    assert attestation.verify(said, issuer, expected, makers, int(time.time())) == "5.7.1"


def test_the_pin_is_forgotten_when_the_card_is_let_go(card: CardConnection, reader: str) -> None:
    with card.held():
        piv_pin.verify(card, PIN)
    with scard.Context() as context, CardConnection(context.connect(reader), reader) as other:
        piv_select.select(other)
        assert piv_pin.tries_left(other) == 3
        command = piv_objects.read(other, CHUID)
        assert command is not None


def test_another_programs_reset_is_lived_with(card: CardConnection, reader: str) -> None:
    with scard.Context() as context:
        other = context.connect(reader)
        other.close(reset=True)
    assert piv_objects.read_chuid(card) is not None

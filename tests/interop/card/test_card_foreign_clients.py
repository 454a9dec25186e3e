"""Programs written by others use the card through a real pcscd and vpcd."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from yubikit.core import InvalidPinError
from yubikit.piv import KEY_TYPE, SLOT, PivSession

from agent.vsc import personalise
from agent.vsc.card import ATR, VirtualCard
from agent.vsc.commands import Algorithm
from agent.vsc.vpcd import AttachmentState
from tests.support import foreign_connections
from tests.support.pcscd import PrivatePcscd
from tests.support.virtual_cards import EC_KEYS, PIN, RSA_KEYS, InReader, full_card, store_in

pytestmark = pytest.mark.interop

MODULE = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"
PIN_TEXT = PIN.decode()


@dataclass
class Inserted:
    """A card in the first slot of the private pcscd."""

    card: VirtualCard
    pcscd: PrivatePcscd
    reader: str
    slot: InReader

    def tool(self, *argv: str) -> str:
        """Run a program, demand its success, return what it printed on both channels."""
        done = self.pcscd.run(argv)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module", params=["rsa", "ec"])
def inserted(
    request: pytest.FixtureRequest, pcscd: PrivatePcscd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Inserted]:
    """A card with RSA keys, then one with EC keys."""
    keys = RSA_KEYS if request.param == "rsa" else EC_KEYS
    card = full_card(store_in(tmp_path_factory.mktemp("card")), keys)
    with InReader(card, pcscd.vpcd_port) as slot:
        yield Inserted(card, pcscd, pcscd.readers[0], slot)


def test_opensc_sees_the_card(inserted: Inserted) -> None:
    """`opensc-tool` lists it, with our ATR, as a PIV card without restrictions."""
    listing = inserted.tool("opensc-tool", "-l")
    assert re.search(rf"Yes\s+{re.escape(inserted.reader)}", listing)
    printed = inserted.tool("opensc-tool", "--reader", inserted.reader, "--atr").strip()
    assert bytes.fromhex(printed.replace(":", "")) == ATR
    assert "Personal Identity Verification Card" in inserted.tool(
        "opensc-tool", "--reader", inserted.reader, "--name"
    )


def test_pkcs15_tool_dumps_three_certificates(inserted: Inserted) -> None:
    """`pkcs15-tool -D` finds keys and certificates in their places; the token is named by the holder."""
    dump = inserted.tool("pkcs15-tool", "--reader", inserted.reader, "-D")
    assert dump.count("X.509 Certificate [") == 3
    assert dump.count("Private ") == 3
    assert "Test Authentication" in dump
    assert inserted.card.guid.hex()[-8:] in dump.lower().replace(" ", "")


def test_pkcs11_tool_wrong_pin(inserted: Inserted) -> None:
    """A wrong PIN is told as one, and costs one try."""
    done = inserted.pcscd.run(["pkcs11-tool", "--module", MODULE, "--login", "--pin", "999999", "--test"])
    assert "CKR_PIN_INCORRECT" in done.stdout + done.stderr
    assert inserted.card.details().pin_tries == 2
    inserted.tool("pkcs11-tool", "--module", MODULE, "--login", "--pin", PIN_TEXT, "--list-objects")
    assert inserted.card.details().pin_tries == 3


def test_pkcs11_tool_tests_itself(inserted: Inserted) -> None:
    """`pkcs11-tool --test` names a signature and a decryption for each RSA key that may; it skips EC keys."""
    said = inserted.tool("pkcs11-tool", "--module", MODULE, "--login", "--pin", PIN_TEXT, "--test")
    assert "No errors" in said
    signatures = said.partition("\nSignatures")[2].partition("\nVerify")[0]
    decryptions = said.partition("\nDecryption")[2]
    if _is_rsa(inserted):
        assert _passed(signatures) == {"PIV AUTH key", "SIGN key"}
        assert _passed(decryptions) == {"PIV AUTH key", "SIGN key", "KEY MAN key"}
    else:
        assert signatures.count("non-RSA, skipping") == decryptions.count("non-RSA, skipping") == 3


def _passed(part: str) -> set[str]:
    """Keys that a part of the test names and that did something successfully in it."""
    keys = re.split(r"testing key \d+ \(", part)[1:]
    return {text.partition(")")[0] for text in keys if re.search(r"\bOK$", text, re.MULTILINE)}


def test_signature_by_pkcs11_tool_verified_by_openssl(inserted: Inserted, tmp_path: Path) -> None:
    """9A and 9C sign what OpenSSL verifies with their certificate's key."""
    message = tmp_path / "message"
    message.write_bytes(b"signed on a virtual card")
    mechanism = "SHA256-RSA-PKCS" if _is_rsa(inserted) else "ECDSA-SHA256"
    for slot, object_id in ((0x9A, "01"), (0x9C, "02")):
        signature = tmp_path / f"signature-{slot:x}"
        options = ["--sign", "--id", object_id, "--mechanism", mechanism, "--signature-format", "openssl"]
        files = ["--input-file", str(message), "--output-file", str(signature)]
        inserted.tool("pkcs11-tool", "--module", MODULE, "--login", "--pin", PIN_TEXT, *options, *files)
        key = _public_key_file(inserted, slot, tmp_path)
        verified = inserted.tool(
            "openssl", "dgst", "-sha256", "-verify", str(key), "-signature", str(signature), str(message)
        )
        assert "Verified OK" in verified


def test_ssh_keygen_finds_the_authentication_key(inserted: Inserted) -> None:
    """`ssh-keygen -D` prints the key of 9A."""
    line = personalise.public_key(inserted.card, 0x9A).public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    assert line.decode() in inserted.tool("ssh-keygen", "-D", MODULE)


def test_yubico_piv_tool_status(inserted: Inserted) -> None:
    """`yubico-piv-tool -a status` reads version, serial, CHUID, certificates and tries."""
    inserted.card.reset()  # a PIN verified by the program before is still verified: it has no tries to tell
    said = inserted.tool("yubico-piv-tool", "-r", inserted.reader, "-a", "status")
    assert "5.7.1" in said
    assert inserted.card.details().serial in said
    assert inserted.card.guid.hex() in said.lower()
    assert "PIN tries left:\t3" in said
    assert said.count("Subject DN:\tCN=Test") == 3


def test_yubikit_reads_verifies_and_signs(inserted: Inserted) -> None:
    """yubikit's PivSession: metadata, certificate, wrong PIN, right PIN, signatures, decryption, agreement."""
    with foreign_connections.yubikit(inserted.reader) as connection:
        session = PivSession(connection)
        assert session.version.major == 5
        assert session.get_pin_metadata().attempts_remaining == 3
        certificate = session.get_certificate(SLOT.SIGNATURE)
        expected = personalise.read_certificate(inserted.card, 0x9C)
        assert certificate.public_bytes(serialization.Encoding.DER) == expected
        with pytest.raises(InvalidPinError) as wrong:
            session.verify_pin("000000")
        assert wrong.value.attempts_remaining == 2
        for slot in (SLOT.AUTHENTICATION, SLOT.SIGNATURE):
            session.verify_pin(PIN_TEXT)
            _sign_and_verify(session, slot)
        session.verify_pin(PIN_TEXT)
        _use_key_management(session)


def _use_key_management(session: PivSession) -> None:
    public = session.get_slot_metadata(SLOT.KEY_MANAGEMENT).public_key
    if isinstance(public, rsa.RSAPublicKey):
        scheme = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        assert session.decrypt(SLOT.KEY_MANAGEMENT, public.encrypt(b"secret", scheme), scheme) == b"secret"
    else:
        assert isinstance(public, ec.EllipticCurvePublicKey)
        ours = ec.generate_private_key(ec.SECP256R1())
        agreed = session.calculate_secret(SLOT.KEY_MANAGEMENT, ours.public_key())
        assert agreed == ours.exchange(ec.ECDH(), public)


def _sign_and_verify(session: PivSession, slot: SLOT) -> None:
    public = session.get_slot_metadata(slot).public_key
    if isinstance(public, rsa.RSAPublicKey):
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        signature = session.sign(slot, KEY_TYPE.RSA2048, b"message", hashes.SHA256(), scheme)
        public.verify(signature, b"message", scheme, hashes.SHA256())
    else:
        assert isinstance(public, ec.EllipticCurvePublicKey)
        signature = session.sign(slot, KEY_TYPE.ECCP256, b"message", hashes.SHA256())
        public.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))


def test_own_chuid_is_confirmed_or_not(pcscd: PrivatePcscd, tmp_path: Path) -> None:
    """The check through PC/SC decides: the card stays, or is detached for good."""
    card = full_card(store_in(tmp_path), {0x9E: Algorithm.P_256})
    asked: list[str] = []

    async def answer_no(guid: str) -> bool:
        asked.append(guid)
        return False

    with InReader(card, pcscd.vpcd_ports[2], confirm=answer_no) as slot:
        assert slot.states == [AttachmentState.CONNECTED, AttachmentState.FOREIGN]
    assert asked == [card.guid.hex()]


def test_attached_again_after_restart(inserted: Inserted) -> None:
    """pcscd stops and starts: the card comes back by itself and works."""
    inserted.pcscd.stop()
    inserted.slot.wait_for(AttachmentState.WAITING)
    inserted.pcscd.start()
    inserted.slot.wait_for(AttachmentState.PRESENT)
    test_opensc_sees_the_card(inserted)
    inserted.pcscd.kill()
    inserted.slot.wait_for(AttachmentState.WAITING)
    inserted.pcscd.start()
    inserted.slot.wait_for(AttachmentState.PRESENT)
    test_opensc_sees_the_card(inserted)


def _is_rsa(inserted: Inserted) -> bool:
    return isinstance(personalise.public_key(inserted.card, 0x9A), rsa.RSAPublicKey)


def _public_key_file(inserted: Inserted, slot: int, folder: Path) -> Path:
    der = personalise.read_certificate(inserted.card, slot)
    public = x509.load_der_x509_certificate(der).public_key()
    path = folder / f"key-{hashlib.sha256(der).hexdigest()[:8]}.pem"
    path.write_bytes(
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return path

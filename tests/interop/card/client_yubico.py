"""Yubico's own: yubikit's PivSession as the full second opinion, ykman, yubico-piv-tool."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, x25519
from yubikit.core import InvalidPinError
from yubikit.core.smartcard import SW, ApduError
from yubikit.piv import KEY_TYPE, MANAGEMENT_KEY_TYPE, OBJECT_ID, PIN_POLICY, SLOT, PivSession

from agent.vsc import slot_keys
from tests.interop.card.clients import MANAGEMENT_KEY, PIN_TEXT, PUK_TEXT, Client, Operation
from tests.support import foreign_connections

if TYPE_CHECKING:
    from collections.abc import Iterator

_PSS: Final = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
_OAEP: Final = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
_TYPES: Final = [each for each in KEY_TYPE if each is not KEY_TYPE.RSA1024]
_NEW: Final = SLOT.RETIRED10


@contextlib.contextmanager
def _session(client: Client, *, managed: bool = False, pin: bool = False) -> Iterator[PivSession]:
    with foreign_connections.yubikit(client.reader) as wrapped:
        session = PivSession(wrapped)
        if managed:
            session.authenticate(MANAGEMENT_KEY)
        if pin:
            session.verify_pin(PIN_TEXT)
        yield session


def _private(kind: KEY_TYPE) -> slot_keys.PrivateKey:
    if kind.name.startswith("RSA"):
        return rsa.generate_private_key(65537, kind.bit_len)
    match kind:
        case KEY_TYPE.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case KEY_TYPE.X25519:
            return x25519.X25519PrivateKey.generate()
        case _:
            return ec.generate_private_key(ec.SECP256R1() if kind is KEY_TYPE.ECCP256 else ec.SECP384R1())


def _generate(client: Client, kind: KEY_TYPE) -> None:
    with _session(client, managed=True) as session:
        public = session.generate_key(_slot_for(kind), kind)
        metadata = session.get_slot_metadata(_slot_for(kind))
        assert (metadata.key_type, metadata.generated, metadata.public_key) == (kind, True, public)
        statement = session.attest_key(_slot_for(kind))
        statement.verify_directly_issued_by(session.get_certificate(SLOT.ATTESTATION))
        assert statement.public_key() == public
    _use(client, kind)


def _import(client: Client, kind: KEY_TYPE) -> None:
    private = _private(kind)
    with _session(client, managed=True) as session:
        assert session.put_key(_slot_for(kind), private, PIN_POLICY.ALWAYS) == kind
        metadata = session.get_slot_metadata(_slot_for(kind))
        assert (metadata.generated, metadata.pin_policy) == (False, PIN_POLICY.ALWAYS)
        assert metadata.public_key == private.public_key()
        with pytest.raises(ApduError):
            session.attest_key(_slot_for(kind))
    _use(client, kind)


def _slot_for(kind: KEY_TYPE) -> SLOT:
    """NIST curves sign in 9E here, for it holds nothing else that the table uses later; the others anywhere."""
    return SLOT.CARD_AUTH if kind in (KEY_TYPE.ECCP256, KEY_TYPE.ECCP384) else _NEW


def _use(client: Client, kind: KEY_TYPE) -> None:
    """Sign or agree by what the key can; without the PIN only where the slot asks for none."""
    with _session(client) as session:
        slot = _slot_for(kind)
        public = session.get_slot_metadata(slot).public_key
        session.verify_pin(PIN_TEXT)
        if isinstance(public, rsa.RSAPublicKey):
            signature = session.sign(slot, kind, b"message", hashes.SHA256(), _PSS)
            public.verify(signature, b"message", _PSS, hashes.SHA256())
            session.verify_pin(PIN_TEXT)
            assert session.decrypt(slot, public.encrypt(b"secret", _OAEP), _OAEP) == b"secret"
        elif isinstance(public, x25519.X25519PublicKey):
            ours = x25519.X25519PrivateKey.generate()
            assert session.calculate_secret(slot, ours.public_key()) == ours.exchange(public)
        elif isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(session.sign(slot, kind, b"message", None), b"message")
        else:
            assert isinstance(public, ec.EllipticCurvePublicKey)
            signature = session.sign(slot, kind, b"message", hashes.SHA384())
            public.verify(signature, b"message", ec.ECDSA(hashes.SHA384()))
            with pytest.raises(InvalidSignature):
                public.verify(signature, b"another", ec.ECDSA(hashes.SHA384()))


def _agree(client: Client) -> None:
    with _session(client, pin=True) as session:
        for slot in (SLOT.RETIRED1, SLOT.RETIRED2):
            public = session.get_slot_metadata(slot).public_key
            assert isinstance(public, ec.EllipticCurvePublicKey)
            ours = ec.generate_private_key(public.curve)
            assert session.calculate_secret(slot, ours.public_key()) == ours.exchange(ec.ECDH(), public)


def _refused(client: Client) -> None:
    """RSA-1024 isn't made; EC keys for agreement don't sign; 9C wants the PIN each time."""
    with _session(client, managed=True, pin=True) as session:
        with pytest.raises(ApduError) as refused:
            session.generate_key(_NEW, KEY_TYPE.RSA1024)
        assert refused.value.sw == SW.INCORRECT_PARAMETERS
        with pytest.raises(ApduError):
            session.sign(SLOT.RETIRED1, KEY_TYPE.ECCP256, b"m", hashes.SHA256())
        session.verify_pin(PIN_TEXT)
        session.sign(SLOT.SIGNATURE, KEY_TYPE.ECCP384, b"m", hashes.SHA384())
        with pytest.raises(ApduError) as refused:
            session.sign(SLOT.SIGNATURE, KEY_TYPE.ECCP384, b"m", hashes.SHA384())
        assert refused.value.sw == SW.SECURITY_CONDITION_NOT_SATISFIED


def _move_and_delete(client: Client) -> None:
    with _session(client, managed=True) as session:
        public = session.generate_key(SLOT.RETIRED15, KEY_TYPE.ED25519)
        session.move_key(SLOT.RETIRED15, SLOT.RETIRED16)
        with pytest.raises(ApduError) as gone:
            session.get_slot_metadata(SLOT.RETIRED15)
        assert gone.value.sw == SW.REFERENCE_DATA_NOT_FOUND
        assert session.get_slot_metadata(SLOT.RETIRED16).public_key == public
        session.verify_pin(PIN_TEXT)
        assert isinstance(public, ed25519.Ed25519PublicKey)
        public.verify(session.sign(SLOT.RETIRED16, KEY_TYPE.ED25519, b"m", None), b"m")
        session.delete_key(SLOT.RETIRED16)
        with pytest.raises(ApduError):
            session.get_slot_metadata(SLOT.RETIRED16)


def _management_keys(client: Client) -> None:
    with _session(client, managed=True) as session:
        for kind in (*MANAGEMENT_KEY_TYPE, MANAGEMENT_KEY_TYPE.TDES):
            key = MANAGEMENT_KEY if kind is MANAGEMENT_KEY_TYPE.TDES else os.urandom(kind.key_len)
            session.set_management_key(kind, key)
            metadata = session.get_management_key_metadata()
            assert (metadata.key_type, metadata.default_value) == (kind, False)
            session.authenticate(key)
            with pytest.raises(ApduError):
                session.authenticate(bytes(range(kind.key_len)))
            session.authenticate(key)


def _references(client: Client) -> None:
    with _session(client) as session:
        with pytest.raises(InvalidPinError) as wrong:
            session.verify_pin("000000")
        assert wrong.value.attempts_remaining == session.get_pin_attempts() == 2
        session.change_pin(PIN_TEXT, "998877")
        session.change_puk(PUK_TEXT, "11223344")
        session.unblock_pin("11223344", PIN_TEXT)
        session.change_puk("11223344", PUK_TEXT)
        assert session.get_pin_metadata().attempts_remaining == 3


def _objects(client: Client) -> None:
    with _session(client, managed=True) as session:
        certificate = session.get_certificate(SLOT.AUTHENTICATION)
        session.put_certificate(SLOT.RETIRED20, certificate, compress=True)
        assert session.get_certificate(SLOT.RETIRED20) == certificate
        session.delete_certificate(SLOT.RETIRED20)
        session.put_object(OBJECT_ID.PRINTED, b"printed")
        with pytest.raises(ApduError):
            session.get_object(OBJECT_ID.PRINTED)
        session.verify_pin(PIN_TEXT)
        assert session.get_object(OBJECT_ID.PRINTED) == b"printed"
        session.put_object(OBJECT_ID.PRINTED, b"")


def _retries(client: Client) -> None:
    with _session(client, managed=True, pin=True) as session:
        session.set_pin_attempts(7, 4)
        metadata = session.get_pin_metadata()
        assert (metadata.total_attempts, metadata.default_value) == (7, True)
        assert session.get_puk_metadata().total_attempts == 4
        session.verify_pin("123456")
        session.change_puk("12345678", PUK_TEXT)
        session.set_pin_attempts(3, 3)
        session.change_puk("12345678", PUK_TEXT)


def _reset(client: Client) -> None:
    with _session(client) as session:
        session.reset()
        assert session.management_key_type is MANAGEMENT_KEY_TYPE.AES192
        session.authenticate(bytes.fromhex("0102030405060708" * 3))
        session.verify_pin("123456")
        for slot in SLOT:
            if slot is not SLOT.ATTESTATION:
                with pytest.raises(ApduError):
                    session.get_slot_metadata(slot)


def _ykman_info(client: Client) -> None:
    said = client.run(str(Path(sys.executable).parent / "ykman"), "--reader", client.reader, "piv", "info")
    assert re.search(r"PIV version:\s+5\.7\.1", said)
    assert re.search(r"PIN tries remaining:\s+3/3", said)
    assert "Card Holder 9A" in said
    assert "WARNING" not in said


def _tool(client: Client, *argv: str, fails: bool = False) -> str:
    return client.run("yubico-piv-tool", "-r", client.reader, *argv, fails=fails)


def _status(client: Client) -> None:
    said = _tool(client, "-a", "status")
    assert "5.7.1" in said
    assert client.card.details().serial in said


def _tool_references(client: Client) -> None:
    _tool(client, "-a", "verify-pin", "-P", "000000", fails=True)
    _tool(client, "-a", "verify-pin", "-P", PIN_TEXT)
    for old, new in ((PIN_TEXT, "998877"), ("998877", PIN_TEXT)):
        _tool(client, "-a", "change-pin", "-P", old, "-N", new)
    for old, new in ((PUK_TEXT, "11223344"), ("11223344", PUK_TEXT)):
        _tool(client, "-a", "change-puk", "-P", old, "-N", new)
    _tool(client, "-a", "unblock-pin", "-P", PUK_TEXT, "-N", PIN_TEXT)


def _tool_certificates(client: Client) -> None:
    certificate = client.certificate(0x9A).public_bytes(serialization.Encoding.PEM)
    path = str(client.write("certificate.pem", certificate))
    key = f"-k{MANAGEMENT_KEY.hex()}"
    _tool(client, key, "-a", "import-certificate", "-s", "95", "-i", path)
    assert certificate.decode().strip() in _tool(client, "-a", "read-certificate", "-s", "95")
    _tool(client, key, "-a", "delete-certificate", "-s", "95")


def _tool_generate(client: Client) -> None:
    key = f"-k{MANAGEMENT_KEY.hex()}"
    for kind in ("ECCP256", "ECCP384", "RSA2048"):
        said = _tool(client, key, "-a", "generate", "-s", "94", "-A", kind)
        assert "BEGIN PUBLIC KEY" in said
        assert "BEGIN CERTIFICATE" in _tool(client, "-a", "attest", "-s", "94")


def _tool_import(client: Client) -> None:
    """Keys that were made elsewhere; what the card has then is told by yubikit."""
    key = f"-k{MANAGEMENT_KEY.hex()}"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL)
    for kind in (KEY_TYPE.ECCP256, KEY_TYPE.ECCP384, KEY_TYPE.RSA2048):
        private = _private(kind)
        pem = client.write("key.pem", private.private_bytes(*form, serialization.NoEncryption()))
        _tool(client, "-k" + "00" * 24, "-a", "import-key", "-s", "93", "-i", str(pem), fails=True)
        _tool(client, key, "-a", "import-key", "-s", "93", "-i", str(pem))
        with _session(client, managed=True) as session:
            told = session.get_slot_metadata(SLOT.RETIRED18)
            assert (told.key_type, told.generated) == (kind, False)
            assert told.public_key == private.public_key()
            session.delete_key(SLOT.RETIRED18)


def _tool_objects(client: Client) -> None:
    """The printed information: written with the management key, read with the PIN, then emptied."""
    key, name = f"-k{MANAGEMENT_KEY.hex()}", ["--id", "0x5fc109", "-f", "hex"]
    content = client.write("object.hex", b"0103414243")
    _tool(client, "-a", "write-object", *name, "-i", str(content), fails=True)  # by the factory's key
    _tool(client, key, "-a", "write-object", *name, "-i", str(content))
    _tool(client, "-a", "read-object", *name, fails=True)
    assert "0103414243" in _tool(client, "-a", "verify-pin", "-P", PIN_TEXT, "-a", "read-object", *name)
    with _session(client, managed=True) as session:
        session.put_object(OBJECT_ID.PRINTED, None)


def _tool_management_key(client: Client) -> None:
    """To another one and back; the one before is worth nothing."""
    ours, other = MANAGEMENT_KEY.hex(), "1a2b3c4d5e6f70819a8b7c6d5e4f30214152637485960718"
    for old, new in ((ours, other), (other, ours)):
        _tool(client, f"-k{old}", "-a", "set-mgm-key", "-n", new)
        _tool(client, f"-k{old}", "-a", "set-mgm-key", "-n", old, fails=True)


def _tool_retries(client: Client) -> None:
    """It sets PIN and PUK to the factory's as well, as on Yubico's cards."""
    key = f"-k{MANAGEMENT_KEY.hex()}"
    for tries in ("5", "3"):
        argv = ["-a", "verify-pin", "-P", PIN_TEXT, "-a", "pin-retries"]
        _tool(client, key, *argv, "--pin-retries", tries, "--puk-retries", tries)
        details = client.card.details()
        assert (details.pin_tries, details.puk_tries) == (int(tries), int(tries))
        _tool(client, "-a", "change-puk", "-P", "12345678", "-N", PUK_TEXT)


def _tool_cannot_sign(client: Client) -> None:
    public = str(client.public_pem(0x9A))
    argv = ["-a", "verify-pin", "-P", PIN_TEXT, "-a", "selfsign-certificate", "-s", "9a", "-S", "/CN=x/"]
    _tool(client, *argv, "-i", public, fails=True)


OPERATIONS: Final = [
    Operation("ykman", "piv info", _ykman_info),
    Operation("yubico-piv-tool", "status", _status),
    Operation("yubico-piv-tool", "PIN, PUK, unblock", _tool_references),
    Operation("yubico-piv-tool", "write, read, delete a certificate", _tool_certificates),
    Operation("yubico-piv-tool", "generate, attest", _tool_generate),
    Operation("yubico-piv-tool", "import P-256, P-384, RSA-2048", _tool_import),
    Operation("yubico-piv-tool", "write, read an object", _tool_objects),
    Operation("yubico-piv-tool", "management key", _tool_management_key),
    Operation("yubico-piv-tool", "retries", _tool_retries),
    Operation("yubico-piv-tool", "sign", _tool_cannot_sign, "2.2 with OpenSSL 3 fails before any command"),
    *(
        Operation("yubikit", f"generate, attest, use {kind}", partial(_generate, kind=kind))
        for kind in _TYPES
    ),
    *(Operation("yubikit", f"import, use {kind}", partial(_import, kind=kind)) for kind in _TYPES),
    Operation("yubikit", "agree P-256, P-384", _agree),
    Operation("yubikit", "what must be refused", _refused),
    Operation("yubikit", "move, delete", _move_and_delete),
    Operation("yubikit", "management key of each kind", _management_keys),
    Operation("yubikit", "PIN, PUK, unblock", _references),
    Operation("yubikit", "objects, compressed certificate", _objects),
    Operation("yubikit", "retries", _retries),
]

LAST: Final = [Operation("yubikit", "reset", _reset)]
"""What empties the card."""

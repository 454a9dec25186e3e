"""OpenSC 0.23: pkcs15-tool, pkcs11-tool, and OpenSSL as the judge."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.vsc import personalise
from agent.vsc.commands import Algorithm
from tests.interop.card.clients import KEYS, MODULE, PIN_TEXT, PUK_TEXT, Client, Operation
from tests.support.virtual_cards import prove_management

_IDS: Final = {0x9A: "01", 0x9C: "02", 0x9D: "03", 0x9E: "04", 0x82: "05", 0x83: "06", 0x84: "07", 0x85: "08"}
_DIGESTS: Final = {Algorithm.P_256: "sha256", Algorithm.P_384: "sha384"}


def _pkcs11(client: Client, *argv: str) -> str:
    return client.run("pkcs11-tool", "--module", MODULE, "--login", "--pin", PIN_TEXT, *argv)


def _dump(client: Client) -> None:
    said = client.run("pkcs15-tool", "-D")
    assert said.count("X.509 Certificate [") == said.count("Private ") == len(KEYS)


def _read_certificates(client: Client) -> None:
    for slot in KEYS:
        pem = client.run("pkcs15-tool", "--read-certificate", _IDS[slot])
        assert client.certificate(slot).public_bytes(Encoding.PEM).decode().strip() in pem


def _change_pin(client: Client) -> None:
    for old, new in ((PIN_TEXT, "998877"), ("998877", PIN_TEXT)):
        client.run("pkcs15-tool", "--change-pin", "--pin", old, "--new-pin", new)


def _unblock(client: Client) -> None:
    for _ in range(3):
        client.run("pkcs15-tool", "--verify-pin", "--pin", "000000", fails=True)
    assert client.card.details().pin_tries == 0
    client.run("pkcs15-tool", "--unblock-pin", "--puk", PUK_TEXT, "--new-pin", PIN_TEXT)
    assert client.card.details().pin_tries == 3


def _test(client: Client) -> None:
    said = _pkcs11(client, "--test")
    assert "No errors" in said
    assert len(re.findall(r"\bOK$", said, re.MULTILINE)) > 5


def _random(client: Client) -> None:
    said = _pkcs11(client, "--generate-random", "64", "--output-file", str(client.path("random")))
    assert len(client.path("random").read_bytes()) == 64, said


def _sign_rsa(client: Client, slot: int, mechanism: str) -> None:
    message, signature = client.write("message", b"signed"), client.path("signature")
    files = ["--input-file", str(message), "--output-file", str(signature)]
    _pkcs11(client, "--sign", "--id", _IDS[slot], "--mechanism", mechanism, *files)
    public = personalise.public_key(client.card, slot)
    assert isinstance(public, rsa.RSAPublicKey)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    scheme = pss if mechanism.endswith("PSS") else padding.PKCS1v15()
    public.verify(signature.read_bytes(), b"signed", scheme, hashes.SHA256())


def _sign_rsa_3072(client: Client) -> None:
    """By a key in a retired slot: the slots for signatures have keys of other kinds."""
    public = personalise.generate(client.card, 0x85, Algorithm.RSA_3072)
    personalise.write_certificate(client.card, 0x85, client.root.issue(public, 0x9A))
    try:
        _sign_rsa(client, 0x85, "SHA256-RSA-PKCS")
    finally:
        _delete(client, 0x85)


def _sign_ec(client: Client, slot: int) -> None:
    digest = _DIGESTS[KEYS[slot]]
    message, signature = client.write("message", b"signed"), client.path("signature")
    hashed = client.path("hashed")
    client.run("openssl", "dgst", f"-{digest}", "-binary", "-out", str(hashed), str(message))
    files = ["--input-file", str(hashed), "--output-file", str(signature), "--signature-format", "openssl"]
    _pkcs11(client, "--sign", "--id", _IDS[slot], "--mechanism", "ECDSA", *files)
    key = str(client.public_pem(slot))
    judged = client.run(
        "openssl", "dgst", f"-{digest}", "-verify", key, "-signature", str(signature), str(message)
    )
    assert "Verified OK" in judged


def _decrypt(client: Client, slot: int, mechanism: str) -> None:
    public = personalise.public_key(client.card, slot)
    assert isinstance(public, rsa.RSAPublicKey)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    scheme = oaep if mechanism.endswith("OAEP") else padding.PKCS1v15()
    secret = client.write("secret", public.encrypt(b"plain text", scheme))
    plain = client.path("plain")
    options = ["--hash-algorithm", "SHA256"] if mechanism.endswith("OAEP") else []
    files = ["--input-file", str(secret), "--output-file", str(plain)]
    _pkcs11(client, "--decrypt", "--id", _IDS[slot], "--mechanism", mechanism, *options, *files)
    assert plain.read_bytes() == b"plain text"


def _derive(client: Client, slot: int) -> None:
    public = personalise.public_key(client.card, slot)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    ours = ec.generate_private_key(public.curve)
    peer = client.write(
        "peer.der", ours.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    shared = client.path("shared")
    files = ["--input-file", str(peer), "--output-file", str(shared)]
    _pkcs11(client, "--derive", "--id", _IDS[slot], "--mechanism", "ECDH1-COFACTOR-DERIVE", *files)
    assert shared.read_bytes() == ours.exchange(ec.ECDH(), public)


_USE: Final = {
    Algorithm.RSA_4096: ("--sign", "--mechanism", "SHA256-RSA-PKCS"),
    Algorithm.ED25519: ("--sign", "--mechanism", "EDDSA"),
    Algorithm.X25519: ("--derive", "--mechanism", "ECDH1-DERIVE"),
}


def _certify(client: Client, slot: int, certificate: bytes) -> None:
    """Write a certificate past pcscd, which may power the idle card down at any moment: a proof is gone then."""
    for tries_left in reversed(range(5)):
        try:
            personalise.write_certificate(client.card, slot, certificate)
        except personalise.CardRefused:
            if not tries_left:
                raise
        else:
            return


def _cannot_use(client: Client, algorithm: Algorithm, reason: str) -> None:
    """A key whose certificate OpenSC reads and whose kind it can't use: in vain, and nothing else suffers."""
    public = personalise.generate(client.card, 0x85, algorithm)
    _certify(client, 0x85, client.root.issue(public, 0x9A))
    message, result = client.write("message", b"used"), client.path("never")
    argv = ["pkcs11-tool", "--module", MODULE, "--login", "--pin", PIN_TEXT, "--id", _IDS[0x85]]
    files = ["--input-file", str(message), "--output-file", str(result)]
    done = client.pcscd.run([*argv, *_USE[algorithm], *files], env=client.env)
    _delete(client, 0x85)
    assert reason in done.stderr, done.stdout + done.stderr
    assert not result.exists()


def _delete(client: Client, slot: int) -> None:
    client.card.reset()
    client.card.transmit(bytes.fromhex("00A4040005A000000308"))
    prove_management(client.card)
    assert client.card.transmit(bytes((0x00, 0xF6, 0xFF, slot))) == b"\x90\x00"
    tag = 0x5FC10D + slot - 0x82
    empty = b"\x00\xdb\x3f\xff\x07\x5c\x03" + tag.to_bytes(3, "big") + b"\x53\x00"
    assert client.card.transmit(empty) == b"\x90\x00"
    client.card.reset()


_NO_RSA_4096 = partial(_cannot_use, algorithm=Algorithm.RSA_4096, reason="CKR_FUNCTION_NOT_SUPPORTED")
_NO_ED25519 = partial(_cannot_use, algorithm=Algorithm.ED25519, reason="Private key not found")
_NO_X25519 = partial(_cannot_use, algorithm=Algorithm.X25519, reason="Private key not found")

OPERATIONS: Final = [
    Operation("pkcs15-tool", "list keys and certificates", _dump),
    Operation("pkcs15-tool", "read every certificate", _read_certificates),
    Operation("pkcs15-tool", "change PIN", _change_pin),
    Operation("pkcs15-tool", "unblock PIN by PUK", _unblock),
    Operation("pkcs11-tool", "--test", _test),
    Operation("pkcs11-tool", "random bytes", _random),
    Operation("pkcs11-tool", "sign RSA-2048 PKCS#1", partial(_sign_rsa, slot=0x9A, mechanism="SHA256-RSA-PKCS")),
    Operation("pkcs11-tool", "sign RSA-2048 PSS", partial(_sign_rsa, slot=0x9A, mechanism="SHA256-RSA-PKCS-PSS")),
    Operation("pkcs11-tool", "sign RSA-3072 PKCS#1, retired", _sign_rsa_3072),
    Operation("pkcs11-tool", "sign P-384 (9C)", partial(_sign_ec, slot=0x9C)),
    Operation("pkcs11-tool", "sign P-256 (9E)", partial(_sign_ec, slot=0x9E)),
    Operation("pkcs11-tool", "decrypt RSA-3072 PKCS#1", partial(_decrypt, slot=0x9D, mechanism="RSA-PKCS")),
    Operation("pkcs11-tool", "decrypt RSA-3072 OAEP", partial(_decrypt, slot=0x9D, mechanism="RSA-PKCS-OAEP")),
    Operation("pkcs11-tool", "decrypt RSA-2048, retired", partial(_decrypt, slot=0x84, mechanism="RSA-PKCS")),
    Operation("pkcs11-tool", "derive P-256, retired", partial(_derive, slot=0x82)),
    Operation("pkcs11-tool", "derive P-384, retired", partial(_derive, slot=0x83)),
    Operation("pkcs11-tool", "sign RSA-4096", _NO_RSA_4096, "OpenSC 0.23 has RSA up to 3072 for PIV"),
    Operation("pkcs11-tool", "sign Ed25519", _NO_ED25519, "OpenSC 0.23 leaves out such a key of a PIV card"),
    Operation("pkcs11-tool", "derive X25519", _NO_X25519, "OpenSC 0.23 leaves out such a key of a PIV card"),
]  # fmt: skip

"""Looks at a card as programs of others do: through PC/SC, by OpenSC and OpenSSL alone.

Certificates are read from the card, verified against CA and CRL, and each is proved by its key: what
the certificate says it is for is what the key has to do.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PURPOSES = {"01": "authentication", "02": "signature", "03": "encryption", "04": "card authentication"}
_CERTIFICATE_ID = re.compile(r"^X\.509 Certificate \[.*?\](?:\n\t.*)*?\n\tID\s+: (\w+)$", re.MULTILINE)


class CheckFailed(AssertionError):
    """A card isn't what it should be.

    Attributes:
        what: which check.
        said: what the program printed.
    """

    def __init__(self, what: str, said: str) -> None:
        super().__init__(what, said)
        self.what = what
        self.said = said

    def __str__(self) -> str:
        return f"{self.what}: {self.said.strip()}"


@dataclass(frozen=True)
class Proved:
    """A certificate that passed all checks.

    Attributes:
        object_id: its id on the card, as OpenSC names it.
        purpose: what it is for.
        subject: its subject.
        proof: what its key did.
        file: the certificate, PEM.
    """

    object_id: str
    purpose: str
    subject: str
    proof: str
    file: Path


def module() -> Path:
    """OpenSC's PKCS#11 module.

    Raises:
        CheckFailed: it isn't installed.
    """
    for found in sorted(Path("/usr/lib").glob("**/opensc-pkcs11.so")):
        return found
    raise CheckFailed("OpenSC's PKCS#11 module", "it isn't installed (package opensc-pkcs11)")


class CardChecks:
    """Checks of the card in one reader.

    Attributes:
        reader: its PC/SC name.
    """

    def __init__(self, reader: str, folder: Path, pin: str) -> None:
        """Check the card in ``reader`` with files in the existing ``folder``."""
        self.reader = reader
        self._folder = folder
        self._env = os.environ | {"CARD_PIN": pin}

    def atr(self) -> str:
        """The card's ATR, hexadecimal."""
        return self._run("ATR", "opensc-tool", "--reader", self.reader, "--atr").strip().replace(":", "")

    def certificate_ids(self) -> list[str]:
        """Ids of the certificates on the card."""
        return _CERTIFICATE_ID.findall(
            self._run("list of certificates", "pkcs15-tool", "--reader", self.reader, "--list-certificates")
        )

    def log_in(self) -> str:
        """Have OpenSC verify the PIN; what it lists of the private keys then.

        Raises:
            CheckFailed: the card didn't take the PIN.
        """
        return self._card("--list-objects", "--type", "privkey")

    def check(self, ca: bytes, crl: bytes) -> list[Proved]:
        """Read every certificate, verify it, and prove it by its key.

        Args:
            ca: the CA's certificate, DER.
            crl: its CRL, DER.

        Raises:
            CheckFailed: one didn't pass.
        """
        ca_file, crl_file = self._pem("ca", "x509", ca), self._pem("crl", "crl", crl)
        return [self._check_one(object_id, ca_file, crl_file) for object_id in self.certificate_ids()]

    def _check_one(self, object_id: str, ca_file: Path, crl_file: Path) -> Proved:
        file = self._folder / f"certificate-{object_id}.pem"
        command = ["pkcs15-tool", "--reader", self.reader, "--read-certificate", object_id]
        file.write_text(self._run("certificate read", *command))
        options = ["-crl_check", "-CAfile", str(ca_file), "-CRLfile", str(crl_file)]
        said = self._run("certificate verified", "openssl", "verify", *options, str(file))
        if not said.strip().endswith(": OK"):
            raise CheckFailed("certificate verified", said)
        text = self._run("certificate", "openssl", "x509", "-in", str(file), "-noout", "-subject", "-text")
        key = self._folder / f"key-{object_id}.pem"
        key.write_text(
            self._run("public key", "openssl", "x509", "-in", str(file), "-noout", "-pubkey"),
        )
        subject = text.partition("\n")[0].removeprefix("subject=").strip()
        proof = self._prove(object_id, key, text)
        return Proved(object_id, _PURPOSES.get(object_id, object_id), subject, proof, file)

    def _prove(self, object_id: str, key: Path, text: str) -> str:
        """Use the key by what its certificate allows."""
        usage = re.search(r"X509v3 Key Usage:.*\n\s*(.*)", text)
        allowed = usage[1] if usage else ""
        rsa = "Public Key Algorithm: rsaEncryption" in text
        if "Digital Signature" in allowed or "Non Repudiation" in allowed:
            return self._sign(object_id, key, "SHA256-RSA-PKCS" if rsa else "ECDSA-SHA256")
        if "Key Encipherment" in allowed:
            return self._decrypt(object_id, key)
        if "Key Agreement" in allowed:
            return self._agree(object_id, key)
        raise CheckFailed(f"key usage of {object_id}", allowed)

    def _sign(self, object_id: str, key: Path, mechanism: str) -> str:
        message, signature = self._folder / "message", self._folder / f"signature-{object_id}"
        message.write_bytes(os.urandom(64))
        self._card(
            *("--sign", "--id", object_id, "--mechanism", mechanism, "--signature-format", "openssl"),
            *("--input-file", str(message), "--output-file", str(signature)),
        )
        options = ["-verify", str(key), "-signature", str(signature), str(message)]
        self._run("signature verified", "openssl", "dgst", "-sha256", *options)
        return f"signed ({mechanism}), verified by openssl"

    def _decrypt(self, object_id: str, key: Path) -> str:
        secret, sealed = self._folder / "secret", self._folder / f"sealed-{object_id}"
        opened = self._folder / f"opened-{object_id}"
        secret.write_bytes(os.urandom(32))
        options = ["-encrypt", "-pubin", "-inkey", str(key), "-in", str(secret), "-out", str(sealed)]
        self._run("encryption by openssl", "openssl", "pkeyutl", *options)
        self._card(
            *("--decrypt", "--id", object_id, "--mechanism", "RSA-PKCS"),
            *("--input-file", str(sealed), "--output-file", str(opened)),
        )
        if opened.read_bytes() != secret.read_bytes():
            raise CheckFailed(f"decryption by {object_id}", "another value came out")
        return "decrypted (RSA-PKCS) what openssl encrypted"

    def _agree(self, object_id: str, key: Path) -> str:
        ours, public = self._folder / "ours.pem", self._folder / "ours.der"
        curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(ours)]
        self._run("key made by openssl", "openssl", "genpkey", *curve)
        self._run(
            "public key",
            "openssl",
            "pkey",
            "-in",
            str(ours),
            "-pubout",
            "-outform",
            "DER",
            "-out",
            str(public),
        )
        theirs, agreed = self._folder / f"theirs-{object_id}", self._folder / f"agreed-{object_id}"
        options = ["-derive", "-inkey", str(ours), "-peerkey", str(key), "-out", str(theirs)]
        self._run("agreement by openssl", "openssl", "pkeyutl", *options)
        self._card(
            *("--derive", "--id", object_id, "--mechanism", "ECDH1-COFACTOR-DERIVE"),
            *("--input-file", str(public), "--output-file", str(agreed)),
        )
        if agreed.read_bytes() != theirs.read_bytes():
            raise CheckFailed(f"key agreement by {object_id}", "another secret came out")
        return "agreed (ECDH) on the secret that openssl has"

    def _card(self, *arguments: str) -> str:
        login = ["--slot-description", self.reader, "--login", "--pin", "env:CARD_PIN"]
        return self._run("use of the key", "pkcs11-tool", "--module", str(module()), *login, *arguments)

    def _pem(self, name: str, kind: str, der: bytes) -> Path:
        raw, pem = self._folder / f"{name}.der", self._folder / f"{name}.pem"
        raw.write_bytes(der)
        self._run(name, "openssl", kind, "-inform", "DER", "-in", str(raw), "-out", str(pem))
        return pem

    def _run(self, what: str, *argv: str) -> str:
        done = subprocess.run(argv, env=self._env, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise CheckFailed(what, f"{' '.join(argv[:2])} … : {done.stdout}{done.stderr}")
        return done.stdout

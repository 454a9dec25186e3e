"""A maker of cards that attest, made up in a test: a root, cards below it, and what they state of a key."""

from __future__ import annotations

import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

ARC: Final = "1.3.6.1.4.1.41482.3."
YEARS: Final = datetime.timedelta(days=3650)
Key = ec.EllipticCurvePrivateKey
Public = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def certificate(
    name: str,
    public: Public,
    issuer: str,
    signer: Key,
    *,
    ca: bool | None,
    path_length: int | None = None,
    said: dict[str, bytes] | None = None,
    begin: datetime.datetime | None = None,
    end: datetime.datetime | None = None,
    critical: bool = False,
    usage: bool | None = None,
    hashed: Any = None,
) -> x509.Certificate:
    """A certificate; ``said`` are the maker's extensions by the last number of their identifier."""

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(issuer))
    builder = builder.public_key(public).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(begin or now - YEARS).not_valid_after(end or now + YEARS)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    if usage is not None:
        flags = dict.fromkeys(
            (
                "digital_signature",
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "key_cert_sign",
                "crl_sign",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        flags["key_cert_sign" if usage else "digital_signature"] = True
        builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
    for number, value in (said or {}).items():
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(ARC + number), value)
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer, hashed or hashes.SHA256())


class Maker:
    """A maker with a root, and one card of its."""

    def __init__(self, serial: int = 42, **card: Any) -> None:
        self.root_key, self.card_key, self.serial = key(), key(), serial
        self.root = certificate("Maker", self.root_key.public_key(), "Maker", self.root_key, ca=True)
        self.issuer = certificate(
            "Card",
            self.card_key.public_key(),
            "Maker",
            self.root_key,
            **{"ca": True, "path_length": 0, **card},
        )

    def statement(
        self,
        slot: str,
        public: Public,
        serial: int | None = None,
        policy: bytes | None = None,
        firmware: bytes = b"\x05\x07\x01",
        **changes: Any,
    ) -> bytes:
        """What the card states of a key, DER."""
        number = (self.serial if serial is None else serial).to_bytes(5, "big")
        usual = b"\x03\x01" if slot == "9C" else b"\x02\x01"
        said = {"3": firmware, "7": b"\x02\x05" + number, "8": usual if policy is None else policy}
        name = f"YubiKey PIV Attestation {slot.lower()}"
        return der(certificate(name, public, "Card", self.card_key, **{"ca": None, "said": said, **changes}))

"""A root of trust and certificates by it for the keys of a card, as a company's CA issues them."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from agent.vsc.slot_keys import PublicKey

HOLDER: Final = "Card Holder"
MAIL: Final = "holder@example.test"

_DAY: Final = datetime.timedelta(days=1)


class Root:
    """A root that certifies for a day.

    Attributes:
        certificate: its own certificate.
    """

    def __init__(self) -> None:
        """Make key and certificate."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Root of the client table")])
        self.certificate = (
            self._builder(name, name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def pem(self) -> bytes:
        """The root's certificate, PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(self, public: PublicKey, slot: int) -> bytes:
        """Certify a key for what its slot is for; DER."""
        agrees = slot not in (0x9A, 0x9C, 0x9E)
        is_rsa = isinstance(public, rsa.RSAPublicKey)
        usage = _usage(
            digital_signature=not agrees,
            content_commitment=slot == 0x9C,
            key_encipherment=agrees and is_rsa,
            key_agreement=agrees and not is_rsa,
        )
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{HOLDER} {slot:02X}")])
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH] if slot == 0x9A else [ExtendedKeyUsageOID.EMAIL_PROTECTION]
        certificate = (
            self._builder(name, self.certificate.subject, public)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(MAIL)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.DER)

    @staticmethod
    def _builder(subject: x509.Name, issuer: x509.Name, public: PublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder(issuer_name=issuer, subject_name=subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )


def _usage(
    *,
    digital_signature: bool = False,
    content_commitment: bool = False,
    key_encipherment: bool = False,
    key_agreement: bool = False,
    key_cert_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=content_commitment,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=key_agreement,
        key_cert_sign=key_cert_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )

"""The fake portal's CA: certificates for what an order asks, challenges, and the check of a receipt."""

from __future__ import annotations

import datetime
import hashlib
import secrets
from collections.abc import Callable

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from protocol import jose, proofs
from protocol.messages import (
    Algorithm,
    Certificates,
    Challenge,
    Consented,
    IssuedCertificate,
    KeyOrder,
    KeySource,
    Order,
    Purpose,
    Receipt,
    Requests,
)
from tests.support.issued_ledger import Ledger
from tests.support.order_messages import certified

_SIGNATURE, _SERIAL = 71, 151
"""Bytes of the most common signature with P-256, and bits of a serial number that has fewer bytes than most."""
_OF_NOBODY = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
"""An extension with bytes that nothing packs."""
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class FakeCA:
    """Issues what is asked for, and remembers what must come back.

    Attributes:
        issued: certificates by slot, of the last order.
        ledger: all that it ever issued, and what they count as.
        growth: bytes by which each certificate of a slot is longer than the one before, so that a card that takes
            nothing longer over anything shorter has to make room; all others are of one length then.
    """

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.issued: dict[str, x509.Certificate] = {}
        self.ledger = Ledger()
        self.growth: int | None = None
        self._secrets: dict[str, bytes] = {}

    def answer(
        self, order: Order, requests: Requests, consented: Consented | None, *, running: bool = True
    ) -> Certificates:
        """The certificates of an order; of one that isn't ``running`` any more none becomes valid."""
        by_slot = {item.slot: item for item in requests.requests}
        issued = []
        for key in certified(order).keys:
            if key.slot in requests.declined:
                continue
            token = None
            left = key.source is KeySource.IMPORT_IF_POSSIBLE and key.slot not in by_slot
            if key.source is KeySource.IMPORT or left:
                assert consented is not None
                private = _make_key(key)
                public = private.public_key()
                token = jose.encrypt(_pkcs8(private), consented.encryption_key)
            else:
                item = by_slot[key.slot]
                public = _proved(item.csr) if item.csr else _loaded(item.public_key)
            before = sum(entry.slot == key.slot for entry in self.ledger.entries)
            certificate = self._issue(public, key.subject, before)
            self.issued[key.slot] = certificate
            self.ledger.add(order, key.slot, certificate, running=running)
            challenge = self._challenge(key, public) if key.purpose is Purpose.ENCRYPTION else None
            der = certificate.public_bytes(serialization.Encoding.DER)
            issued.append(IssuedCertificate(key.slot, der, token, challenge))
        return Certificates(certificates=issued)

    def altered(self, certificates: Certificates, change: Callable[[bytes], bytes]) -> Certificates:
        """The certificates with one of them changed."""
        first, *rest = certificates.certificates
        changed = msgspec.structs.replace(first, certificate=change(first.certificate))
        return Certificates(certificates=[changed, *rest])

    def foreign_certificate(self) -> bytes:
        """A certificate for a key that nobody asked for."""
        certificate = self._issue(ec.generate_private_key(ec.SECP256R1()).public_key(), "CN=Somebody Else")
        return certificate.public_bytes(serialization.Encoding.DER)

    def check(self, order: Order, receipt: Receipt) -> None:
        """Check that every key of an order has proved itself."""
        proved = {proof.slot for proof in receipt.proofs}
        needed = [key.slot for key in certified(order).keys if not key.optional or key.slot in proved]
        assert [proof.slot for proof in receipt.proofs] == needed
        for proof in receipt.proofs:
            certificate = self.issued[proof.slot]
            der = certificate.public_bytes(serialization.Encoding.DER)
            assert proof.certificate_sha256 == hashlib.sha256(der).digest()
            if proof.mac is not None:
                assert proof.mac == proofs.mac(self._secrets[proof.slot], order.origin, order.jti, der)
                continue
            assert proof.signature is not None
            _verify(
                certificate.public_key(),
                proof.signature,
                proofs.signature_input(order.origin, order.jti, der),
            )

    def _challenge(self, key: KeyOrder, public: PublicKey) -> Challenge:
        if isinstance(public, rsa.RSAPublicKey):
            self._secrets[key.slot] = secrets.token_bytes(32)
            oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
            return Challenge(ciphertext=public.encrypt(self._secrets[key.slot], oaep))
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        self._secrets[key.slot] = ephemeral.exchange(ec.ECDH(), public)
        point = ephemeral.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return Challenge(ephemeral=point)

    def _issue(self, public: PublicKey, subject: str, before: int = 0) -> x509.Certificate:
        while True:
            made = self._signed(public, subject, (self.growth or 0) * before)
            if self.growth is None or (len(made.signature), made.serial_number.bit_length() > 151) == (
                71,
                True,
            ):
                return made

    def _signed(self, public: PublicKey, subject: str, more: int) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name.from_rfc4514_string(subject))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(days=30))
        )
        if more:
            filling = x509.UnrecognizedExtension(_OF_NOBODY, secrets.token_bytes(more))
            builder = builder.add_extension(filling, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _make_key(key: KeyOrder) -> PrivateKey:
    if key.algorithm is Algorithm.RSA_2048:
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


def _pkcs8(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _proved(csr: bytes) -> PublicKey:
    request = x509.load_der_x509_csr(csr)
    assert request.is_signature_valid
    key = request.public_key()
    assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    return key


def _loaded(spki: bytes | None) -> PublicKey:
    assert spki is not None
    key = serialization.load_der_public_key(spki)
    assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    return key


def _verify(key: object, signature: bytes, message: bytes) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    else:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))

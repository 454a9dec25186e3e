"""Certificate requests (PKCS#10, RFC 2986) in two steps, for keys that sign inside a card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agent.pcsc import tlv

if TYPE_CHECKING:
    from agent.pcsc.public_keys import PublicKey

_SHA256_WITH_RSA: Final = bytes.fromhex("300d06092a864886f70d01010b0500")
_ECDSA_WITH: Final = {
    256: bytes.fromhex("300a06082a8648ce3d040302"),
    384: bytes.fromhex("300a06082a8648ce3d040303"),
}
"""AlgorithmIdentifiers (RFC 4055, 5758): SHA-256 for P-256, SHA-384 for P-384."""


def information(subject: str, key: PublicKey) -> bytes:
    """What is to be signed: CertificationRequestInfo without attributes, DER.

    Args:
        subject: RFC 4514 text.
        key: the public key that asks.

    Raises:
        ValueError: the subject is none.
    """
    public = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    name = x509.Name.from_rfc4514_string(subject).public_bytes()
    return tlv.encode(0x30, tlv.encode(0x02, b"\x00") + name + public + tlv.encode(0xA0, b""))


def request(signed: bytes, key: PublicKey, signature: bytes) -> bytes:
    """Put `information` and the signature over it together: CertificationRequest, DER."""
    identifier = _SHA256_WITH_RSA if isinstance(key, rsa.RSAPublicKey) else _ECDSA_WITH[_bits(key)]
    return tlv.encode(0x30, signed + identifier + tlv.encode(0x03, b"\x00" + signature))


def _bits(key: ec.EllipticCurvePublicKey) -> int:
    return key.curve.key_size

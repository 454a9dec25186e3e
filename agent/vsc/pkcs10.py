"""Certificate requests (PKCS#10, RFC 2986) in two steps, for keys that never leave the card."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent.vsc import tlv
from agent.vsc.commands import RSA_BITS, Algorithm
from agent.vsc.slot_keys import PublicKey

# AlgorithmIdentifiers (RFC 4055, 5758, 8410), for the digests that `personalise.sign` uses
_SHA256_WITH_RSA: Final = bytes.fromhex("300d06092a864886f70d01010b0500")
_ECDSA_WITH_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")
_ED25519: Final = bytes.fromhex("300506032b6570")


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
    no_attributes = tlv.encode(0xA0, b"")
    return tlv.encode(0x30, tlv.encode(0x02, b"\x00") + name + public + no_attributes)


def request(signed: bytes, algorithm: Algorithm, signature: bytes) -> bytes:
    """Put `information` and the signature over it together: CertificationRequest, DER."""
    if algorithm in RSA_BITS:
        identifier = _SHA256_WITH_RSA
    else:
        identifier = _ED25519 if algorithm is Algorithm.ED25519 else _ECDSA_WITH_SHA256
    return tlv.encode(0x30, signed + identifier + tlv.encode(0x03, b"\x00" + signature))

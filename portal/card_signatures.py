"""Verifies what cards have signed for the operations *authenticate* and *sign* (RFC 7518, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from portal.ca.x509 import public_key_of

if TYPE_CHECKING:
    from protocol.messages import CardSignature

_COORDINATE: Final = 32


def verifies(given: CardSignature, digest: bytes) -> bool:
    """Whether a signature is of its certificate's key, over a SHA-256 digest.

    Whose certificate it is, and whether it is good, is for the caller to check.
    """
    key = public_key_of(given.certificate)
    over = Prehashed(hashes.SHA256())
    try:
        if given.algorithm == "RS256" and isinstance(key, rsa.RSAPublicKey):
            key.verify(given.signature, digest, padding.PKCS1v15(), over)
        elif given.algorithm == "ES256" and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(_der(given.signature), digest, ec.ECDSA(over))
        else:
            return False
    except (InvalidSignature, ValueError):
        return False
    return True


def _der(signature: bytes) -> bytes:
    if len(signature) != 2 * _COORDINATE:
        raise ValueError(len(signature))
    numbers = (int.from_bytes(part, "big") for part in (signature[:_COORDINATE], signature[_COORDINATE:]))
    return encode_dss_signature(*numbers)

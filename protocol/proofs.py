"""What a card's key signs or computes to prove that it belongs to its certificate.

A proof is bound to the page's origin, the order and the certificate, so that it is worth nothing elsewhere.
Only digests and MACs are computed here; the card's operation is the agent's, its verification the portal's.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

SIGNATURE_LABEL: Final = b"inlay-proof-1"
MAC_LABEL: Final = b"inlay-proof-mac-1"


def signature_input(origin: str, jti: str, certificate: bytes) -> bytes:
    """The bytes that authentication and signature keys sign with SHA-256.

    Args:
        origin: origin of the page that began the order.
        jti: the order's id.
        certificate: DER.

    Returns:
        ``'inlay-proof-1' ‖ SHA-256(origin) ‖ jti ‖ SHA-256(certificate)``. All parts but ``jti`` have a fixed
        length, so no two inputs share one concatenation.
    """
    return SIGNATURE_LABEL + _context(origin, jti, certificate)


def mac(secret: bytes | bytearray, origin: str, jti: str, certificate: bytes) -> bytes:
    """The answer of a key that decrypts or agrees.

    Args:
        secret: what the challenge gave: the 32 decrypted bytes, or the ECDH shared secret (x coordinate).
        origin: origin of the page that began the order.
        jti: the order's id.
        certificate: DER.

    Returns:
        HMAC-SHA-256, 32 bytes.
    """
    return hmac.new(bytes(secret), MAC_LABEL + _context(origin, jti, certificate), hashlib.sha256).digest()


def authentication_input(origin: str, challenge: str) -> bytes:
    """The bytes that a card's authentication key signs with SHA-256 for the operation *authenticate*.

    The same as of a Web eID authentication token (format ``web-eid:1``), whose verifiers can be used.

    Args:
        origin: origin of the page that began the order.
        challenge: the order's.

    Returns:
        ``SHA-256(origin) ‖ SHA-256(challenge)``, 64 bytes.
    """
    return hashlib.sha256(origin.encode()).digest() + hashlib.sha256(challenge.encode()).digest()


def certificate_hash(certificate: bytes) -> bytes:
    """SHA-256 of the DER, 32 bytes."""
    return hashlib.sha256(certificate).digest()


def _context(origin: str, jti: str, certificate: bytes) -> bytes:
    return hashlib.sha256(origin.encode()).digest() + jti.encode() + hashlib.sha256(certificate).digest()

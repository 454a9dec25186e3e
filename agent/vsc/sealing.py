"""Sealing of short secrets: AES-256-GCM with a purpose, under a key or to a public key. No state, no policy.

What is sealed opens only with the same `about`, so that nothing can be put in another's place.
"""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE: Final = 12
_X25519: Final = 32


def derive_key(material: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA-256 (RFC 5869): 32 bytes from `material`, salted, for the purpose `info`."""
    return HKDF(hashes.SHA256(), 32, salt, info).derive(material)


def seal(key: bytes, plain: bytes, about: bytes) -> bytes:
    """Seal `plain` under a key of 32 bytes; a random nonce of 12 bytes comes first."""
    nonce = secrets.token_bytes(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain, about)


def unseal(key: bytes, sealed: bytes, about: bytes) -> bytes:
    """Open what `seal` made.

    Raises:
        InvalidTag: it was sealed under another key, for something else, or was changed.
    """
    if len(sealed) < _NONCE:
        raise InvalidTag
    return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], about)


def seal_to(public: bytes, plain: bytes, about: bytes) -> bytes:
    """Seal to an X25519 public key of 32 bytes: an ephemeral key, then AES-256-GCM under the agreed one."""
    ephemeral = X25519PrivateKey.generate()
    ours = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    return ours + seal(derive_key(shared, ours + public, about), plain, about)


def open_with(private: X25519PrivateKey, sealed: bytes, about: bytes) -> bytes:
    """Open what `seal_to` made.

    Raises:
        InvalidTag: it was sealed to another key, for something else, or was changed.
    """
    if len(sealed) < _X25519:
        raise InvalidTag
    theirs, ours = sealed[:_X25519], private.public_key().public_bytes_raw()
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(theirs))
    except ValueError as error:  # a point of low order
        raise InvalidTag from error
    return unseal(derive_key(shared, theirs + ours, about), sealed[_X25519:], about)

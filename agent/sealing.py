"""Sealing of small secrets under a key derived from the device secret: AES-256-GCM, bound to their place."""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES: Final = 12


class SealBrokenError(Exception):
    """What was sealed doesn't open: altered, moved to another place, or sealed under another secret.

    Attributes:
        place: what it was to be.
    """

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place


class Sealer:
    """Seals and opens under one key."""

    def __init__(self, key: bytes) -> None:
        """Use a 32-byte key."""
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        return "<Sealer>"

    def seal(self, plain: bytes, place: str) -> bytes:
        """Seal bytes for a place (table, column and row, say): they open there and nowhere else."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Open what was sealed for the same place.

        Raises:
            SealBrokenError: it wasn't.
        """
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError):
            raise SealBrokenError(place) from None

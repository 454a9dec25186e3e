"""Numbers of PIV: keys, algorithms, objects (SP 800-73pt1-5, tables 3, 4 and 5; SP 800-78-5, table 8)."""

from __future__ import annotations

import enum
from typing import Final

AID: Final = bytes.fromhex("A000000308000010000100")
"""The whole AID with its version, 11 bytes; the first 9 are the PIX without it, the first 5 the RID."""

PIN, PUK = 0x80, 0x81
AUTHENTICATION, SIGNATURE, KEY_MANAGEMENT, CARD_AUTHENTICATION = 0x9A, 0x9C, 0x9D, 0x9E
MANAGEMENT: Final = 0x9B
ATTESTATION: Final = 0xF9
RETIRED: Final = range(0x82, 0x96)
SLOTS: Final = (AUTHENTICATION, SIGNATURE, KEY_MANAGEMENT, CARD_AUTHENTICATION, *RETIRED)

CHUID, CCC, DISCOVERY, KEY_HISTORY = 0x5FC102, 0x5FC107, 0x7E, 0x5FC10C
PRINTED, FINGERPRINTS, FACE, SECURITY, IRIS = 0x5FC109, 0x5FC103, 0x5FC108, 0x5FC106, 0x5FC121
ATTESTATION_CERTIFICATE: Final = 0x5FFF01

CERTIFICATES: Final = {
    AUTHENTICATION: 0x5FC105,
    SIGNATURE: 0x5FC10A,
    KEY_MANAGEMENT: 0x5FC10B,
    CARD_AUTHENTICATION: 0x5FC101,
    ATTESTATION: ATTESTATION_CERTIFICATE,
    **{slot: 0x5FC10D + number for number, slot in enumerate(RETIRED)},
}
"""Slot to the object that holds its certificate."""


class KeyAlgorithm(enum.IntEnum):
    """Algorithms of keys; RSA-4096, Ed25519 and X25519 are Yubico's."""

    RSA_1024 = 0x06
    RSA_2048 = 0x07
    RSA_3072 = 0x05
    RSA_4096 = 0x16
    P_256 = 0x11
    P_384 = 0x14
    ED25519 = 0xE0
    X25519 = 0xE1

    @property
    def label(self) -> str:
        """Its name as a person reads it: ``RSA-2048``, ``P-256``, ``ED25519``."""
        return self.name.replace("_", "-")


RSA_BITS: Final = {
    KeyAlgorithm.RSA_1024: 1024,
    KeyAlgorithm.RSA_2048: 2048,
    KeyAlgorithm.RSA_3072: 3072,
    KeyAlgorithm.RSA_4096: 4096,
}


class ManagementAlgorithm(enum.IntEnum):
    """Algorithms of the management key."""

    TDES = 0x03
    AES_128 = 0x08
    AES_192 = 0x0A
    AES_256 = 0x0C

    @property
    def key_bytes(self) -> int:
        """Length of the key."""
        return {0x08: 16, 0x0C: 32}.get(self, 24)

    @property
    def block_bytes(self) -> int:
        """Length of a challenge and of its answer."""
        return 8 if self is ManagementAlgorithm.TDES else 16


class PinPolicy(enum.IntEnum):
    """When a key asks for the PIN (Yubico; the standard fixes it for each slot)."""

    DEFAULT = 0
    NEVER = 1
    ONCE = 2
    ALWAYS = 3


class TouchPolicy(enum.IntEnum):
    """When a key asks for a touch (Yubico)."""

    DEFAULT = 0
    NEVER = 1
    ALWAYS = 2
    CACHED = 3


def slot_name(slot: int) -> str:
    """A slot as messages name it: ``9A``."""
    return f"{slot:02X}"

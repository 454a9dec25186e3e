"""The card's commands as types, and the numbers they are made of.

SP 800-73pt2-5, section 3; SP 800-78-5, table 8. What is marked *Yubico* is that maker's, because its
tools expect it. Bytes become commands in `agent.vsc.command_parser`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

PIV_AID: Final = bytes.fromhex("A000000308000010000100")
MAX_OBJECT_BYTES: Final = 12_288
REFERENCE_BYTES: Final = 8

SELECT, GET_DATA, PUT_DATA, VERIFY = 0xA4, 0xCB, 0xDB, 0x20
CHANGE_REFERENCE, RESET_RETRY, GENERAL_AUTHENTICATE, GENERATE = 0x24, 0x2C, 0x87, 0x47
GET_RESPONSE, GET_VERSION, GET_SERIAL, GET_METADATA, IMPORT_KEY = 0xC0, 0xFD, 0xF8, 0xF7, 0xFE
MOVE_KEY, ATTEST, SET_RETRIES, RESET_CARD, SET_MANAGEMENT_KEY = 0xF6, 0xF9, 0xFA, 0xFB, 0xFF

MANAGEMENT: Final = 0x9B
ATTESTATION: Final = 0xF9
"""The key that attests other keys (Yubico); it does nothing else."""

RETIRED: Final = range(0x82, 0x96)
SLOTS: Final = frozenset({0x9A, 0x9C, 0x9D, 0x9E, *RETIRED})
"""Authentication, signature, key management, card authentication, retired key management 1 to 20."""


class Algorithm(enum.IntEnum):
    """Algorithms of slot keys (SP 800-78-5, table 8; RSA-4096, Ed25519 and X25519: Yubico).

    RSA-1024 (06) isn't one of them: SP 800-78-5 has withdrawn it.
    """

    RSA_3072 = 0x05
    RSA_2048 = 0x07
    P_256 = 0x11
    P_384 = 0x14
    RSA_4096 = 0x16
    ED25519 = 0xE0
    X25519 = 0xE1

    @property
    def label(self) -> str:
        """Its name as a person reads it: ``RSA-2048``, ``P-256``, ``Ed25519``."""
        return {0xE0: "Ed25519", 0xE1: "X25519"}.get(self, self.name.replace("_", "-"))


RSA_BITS: Final = {Algorithm.RSA_2048: 2048, Algorithm.RSA_3072: 3072, Algorithm.RSA_4096: 4096}
SCALAR_BYTES: Final = {
    Algorithm.P_256: 32,
    Algorithm.P_384: 48,
    Algorithm.ED25519: 32,
    Algorithm.X25519: 32,
}
"""Bytes of a private scalar or seed, and of a coordinate."""


class ManagementAlgorithm(enum.IntEnum):
    """Algorithms of the management key (SP 800-78-5, table 8)."""

    TDES = 0x03
    AES_128 = 0x08
    AES_192 = 0x0A
    AES_256 = 0x0C

    @property
    def key_bytes(self) -> int:
        """Length of the key, 16 to 32 bytes; 3DES has 24, with their parity bits."""
        return {0x08: 16, 0x0C: 32}.get(self, 24)

    @property
    def block_bytes(self) -> int:
        """Length of a witness, a challenge and their answers: 8 or 16 bytes."""
        return 8 if self is ManagementAlgorithm.TDES else 16


class Reference(enum.IntEnum):
    """What a person knows (SP 800-73pt1-5, table 4a)."""

    PIN = 0x80
    PUK = 0x81


class PinPolicy(enum.IntEnum):
    """When a slot's key asks for the PIN (Yubico; the standard fixes it for each slot)."""

    DEFAULT = 0
    NEVER = 1
    ONCE = 2
    ALWAYS = 3


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT by a name; `known` says whether it is this application's."""

    known: bool


@dataclass(frozen=True, slots=True)
class GetData:
    """GET DATA of one object."""

    tag: int


@dataclass(frozen=True, slots=True)
class PutData:
    """PUT DATA of one object; an empty value deletes."""

    tag: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Verify:
    """VERIFY the PIN; `block` is None when only its status is asked for."""

    block: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class LogOut:
    """VERIFY with P1=FF: the PIN counts as not verified from now on."""


@dataclass(frozen=True, slots=True)
class ChangeReference:
    """CHANGE REFERENCE DATA."""

    reference: Reference
    old: bytes = field(repr=False)
    new: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ResetRetry:
    """RESET RETRY COUNTER: a new PIN by the PUK."""

    puk: bytes = field(repr=False)
    new: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authenticate:
    """GENERAL AUTHENTICATE; the four fields of the dynamic authentication template, None when absent."""

    algorithm: int
    key: int
    witness: bytes | None = field(default=None, repr=False)
    challenge: bytes | None = field(default=None, repr=False)
    response: bytes | None = field(default=None, repr=False)
    point: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Generate:
    """GENERATE ASYMMETRIC KEY PAIR."""

    slot: int
    algorithm: Algorithm
    pin_policy: PinPolicy


@dataclass(frozen=True, slots=True)
class ImportKey:
    """IMPORT ASYMMETRIC KEY (Yubico).

    Attributes:
        material: RSA: p and q; NIST curves: the scalar; Ed25519 and X25519: the 32 bytes of RFC 8410.
    """

    slot: int
    algorithm: Algorithm
    pin_policy: PinPolicy
    material: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class GetVersion:
    """GET VERSION (Yubico)."""


@dataclass(frozen=True, slots=True)
class GetSerial:
    """GET SERIAL (Yubico)."""


@dataclass(frozen=True, slots=True)
class GetMetadata:
    """GET METADATA of a key or a reference (Yubico)."""

    key: int


@dataclass(frozen=True, slots=True)
class MoveKey:
    """MOVE KEY (Yubico); `target` is None when the key is to be deleted."""

    source: int
    target: int | None


@dataclass(frozen=True, slots=True)
class Attest:
    """ATTEST the key of a slot (Yubico)."""

    slot: int


@dataclass(frozen=True, slots=True)
class SetRetries:
    """SET PIN RETRIES (Yubico): tries of PIN and PUK, 1 to 255 each; both get their default values."""

    pin: int
    puk: int


@dataclass(frozen=True, slots=True)
class ResetCard:
    """RESET (Yubico): an empty card with default values."""


@dataclass(frozen=True, slots=True)
class SetManagementKey:
    """SET MANAGEMENT KEY (Yubico)."""

    algorithm: ManagementAlgorithm
    value: bytes = field(repr=False)


DataCommand = Select | GetData | PutData | GetMetadata | GetVersion | GetSerial
"""Commands that need no key."""

ReferenceCommand = Verify | LogOut | ChangeReference | ResetRetry
"""Commands about PIN and PUK."""

KeyCommand = Authenticate | Generate | ImportKey | MoveKey | Attest
"""Commands about keys."""

CardCommand = SetRetries | ResetCard | SetManagementKey
"""Commands about the whole card."""

Command = DataCommand | ReferenceCommand | KeyCommand | CardCommand


def is_reference_value(block: bytes) -> bool:
    """Whether an 8-byte block is a PIN or PUK: 6 to 8 printable ASCII bytes, then FF only.

    SP 800-73pt1-5, section 2.4.3; printable characters beyond digits as real cards admit them.
    """
    value = block.rstrip(b"\xff")
    return len(block) == REFERENCE_BYTES and len(value) >= 6 and all(0x20 <= byte <= 0x7E for byte in value)


def default_pin_policy(slot: int) -> PinPolicy:
    """The standard's rule for a slot (SP 800-73pt1-5, table 5): 9C always, 9E never, else once; F9 never."""
    free = {0x9E: PinPolicy.NEVER, ATTESTATION: PinPolicy.NEVER}
    return {0x9C: PinPolicy.ALWAYS, **free}.get(slot, PinPolicy.ONCE)

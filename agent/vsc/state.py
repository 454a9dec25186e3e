"""What a card remembers: for good (`PersistentState`) and while it has power (`VolatileState`).

Both are values: the engine takes them and returns new ones. Nothing in the persistent state is a bare
secret; every key and reference in it is sealed by `agent.vsc.keys_software`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, Protocol

import msgspec
from msgspec import Meta

from agent.vsc.commands import Algorithm, ManagementAlgorithm, PinPolicy, Reference

PIN_TRIES: Final = 3
PUK_TRIES: Final = 3

Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Salt = Annotated[bytes, Meta(min_length=16, max_length=16)]


class Lifecycle(enum.StrEnum):
    """Where the card is in its life; only an active card is ever attached to a reader."""

    BEING_MADE = "being_made"
    ACTIVE = "active"


class Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of what is saved: immutable, unknown fields refused, no content in its `repr`."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Argon2Cost(Stored, frozen=True):
    """Cost of one guess at a PIN or PUK (RFC 9106).

    The default is the RFC's second recommended choice: 64 MiB, three passes.

    Attributes:
        passes: number of passes, 1 to 64.
        memory_kib: memory in KiB, 64 to 4 GiB.
        lanes: degree of parallelism, 1 to 16.
    """

    passes: Annotated[int, Meta(ge=1, le=64)] = 3
    memory_kib: Annotated[int, Meta(ge=64, le=4_194_304)] = 65_536
    lanes: Annotated[int, Meta(ge=1, le=16)] = 4


class ReferenceState(Stored, frozen=True):
    """A PIN or PUK: the card key wrapped under it, and the tries.

    Attributes:
        salt: 16 random bytes, new with each value.
        wrapped: the card's private key, sealed under Argon2id(value, salt) and the device secret.
        tries: tries left, 0 is blocked.
        tries_at_most: tries after a success.
        default: it is the well-known value that SET PIN RETRIES or RESET left.
    """

    salt: Salt
    wrapped: bytes
    tries: Annotated[int, Meta(ge=0, le=255)]
    tries_at_most: Annotated[int, Meta(ge=1, le=255)]
    default: bool = False


class ManagementKey(Stored, frozen=True):
    """The management key 9B, sealed under the device secret.

    Attributes:
        algorithm: its algorithm.
        sealed: its value.
        default: it is the well-known value that RESET left.
    """

    algorithm: ManagementAlgorithm
    sealed: bytes
    default: bool = False


class SlotKey(Stored, frozen=True):
    """A key in a slot.

    Attributes:
        slot: key reference, 0x9A and so on.
        algorithm: its algorithm.
        public: SubjectPublicKeyInfo, DER.
        sealed: PKCS#8 DER sealed to the card's public key, or, with the PIN policy *never*, under the
            device secret.
        pin_policy: when the PIN is asked for; never `DEFAULT`.
        generated: made on the card (True) or imported.
        born: slot it was made in or imported to, 0 when it is still there; `sealed` names that slot, so
            that moving a key asks for no PIN.
    """

    slot: int
    algorithm: Algorithm
    public: bytes
    sealed: bytes
    pin_policy: PinPolicy
    generated: bool
    born: int = 0


class PersistentState(Stored, frozen=True):
    """All that survives a loss of power.

    Attributes:
        card_id: name of the card's file, 32 hexadecimal digits.
        generation: counts the saved versions of this card, so that a portal can tell a restored old file.
        lifecycle: see `Lifecycle`.
        label: the profile's name.
        serial: 4 bytes, as GET SERIAL answers.
        guid: 16 bytes, the CHUID's.
        cost: Argon2id's parameters of this card.
        public: X25519 public key of the card, 32 bytes; slot keys are sealed to it.
        pin: the PIN.
        puk: the PUK.
        unblock: nothing; stands in files of version 2 and before.
        management: the management key.
        objects: data objects by tag, the value inside of tag 53.
        slots: keys by slot, the attestation key among them.
        attested: the card has been given an attestation key; cards of file version 1 haven't yet.
    """

    card_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    generation: Annotated[int, Meta(ge=0)]
    lifecycle: Lifecycle
    label: Annotated[str, Meta(min_length=1, max_length=200)]
    serial: Annotated[bytes, Meta(min_length=4, max_length=4)]
    guid: Salt
    cost: Argon2Cost
    public: Bytes32
    pin: ReferenceState
    puk: ReferenceState
    management: ManagementKey
    objects: dict[int, bytes]
    slots: dict[int, SlotKey]
    attested: bool = False
    unblock: None = None

    def reference(self, reference: Reference) -> ReferenceState:
        """The PIN's or the PUK's part."""
        return self.pin if reference is Reference.PIN else self.puk

    def with_reference(self, reference: Reference, value: ReferenceState) -> PersistentState:
        """A copy with the PIN's or the PUK's part replaced."""
        if reference is Reference.PIN:
            return msgspec.structs.replace(self, pin=value)
        return msgspec.structs.replace(self, puk=value)

    def with_work_of(self, other: PersistentState, *, new_pin: bool) -> PersistentState:
        """What another state of this card has of keys, certificates and objects; and its PIN, where that is new."""
        return msgspec.structs.replace(
            other,
            lifecycle=self.lifecycle,
            cost=self.cost,
            pin=other.pin if new_pin else self.pin,
            puk=self.puk,
            management=self.management,
        )


class OpenCard(Protocol):
    """The card's private key, unlocked: made by the key port, understood by it alone."""

    def forget(self) -> None:
        """Drop what was unlocked, as far as Python can."""


@dataclass(frozen=True, slots=True)
class PendingAuthentication:
    """A management authentication under way.

    Attributes:
        mode: ``external`` (the host answers the card's challenge) or ``mutual`` (it returns the witness).
        expected: what the host must send, one block.
    """

    mode: Literal["external", "mutual"]
    expected: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Chain:
    """Pieces of a chained command so far (ISO 7816-4, section 5.3.3)."""

    ins: int
    p1: int
    p2: int
    data: bytes = field(repr=False)


class VolatileState(msgspec.Struct, frozen=True):
    """All that a loss of power takes away; a struct, because each command copies it several times.

    Attributes:
        selected: the PIV application has been selected.
        pin_verified: the PIN was right and nobody logged out.
        pin_fresh: and no private key has been used since.
        managed: the management key has been proved.
        pending: a management authentication under way.
        open_card: the card key, once a PIN has opened it.
        chain: a chained command under way.
        outgoing: rest of an answer, for GET RESPONSE.
    """

    selected: bool = False
    pin_verified: bool = False
    pin_fresh: bool = False
    managed: bool = False
    pending: PendingAuthentication | None = None
    open_card: OpenCard | None = None
    chain: Chain | None = None
    outgoing: bytes = b""

    def __repr__(self) -> str:
        """Nothing of its content."""
        return "<VolatileState>"

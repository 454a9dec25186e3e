"""What the engine asks of whatever keeps the card's keys; `keys_software` is the first such keeper."""

from __future__ import annotations

from typing import Protocol

from cryptography import x509

from agent.vsc.commands import Algorithm, ManagementAlgorithm, PinPolicy, Reference
from agent.vsc.state import (
    Argon2Cost,
    ManagementKey,
    OpenCard,
    PersistentState,
    ReferenceState,
    SlotKey,
)


class UnusableInput(Exception):
    """A key or a block that no key of that kind can be or take; the host sees 6A80."""


class KeyPort(Protocol):
    """Cryptography and sealing for one card. Deterministic but for the random bytes it draws."""

    def random_bytes(self, length: int) -> bytes:
        """So many bytes nobody can predict."""

    def new_card(
        self, card_id: str, pin: bytes, puk: bytes, cost: Argon2Cost
    ) -> tuple[bytes, ReferenceState, ReferenceState]:
        """Make a card key pair, its private half wrapped under PIN and PUK; slow.

        Args:
            card_id: the card.
            pin: 8 bytes, padded with FF.
            puk: 8 bytes, padded with FF.
            cost: of Argon2id.

        Returns:
            The public half, and the private one wrapped under PIN and under PUK.
        """

    def seal_management_key(
        self, card_id: str, algorithm: ManagementAlgorithm, value: bytes
    ) -> ManagementKey:
        """Seal a management key of `algorithm.key_bytes` bytes; needs no PIN."""

    def open_by(
        self, state: PersistentState, reference: Reference, block: bytes, held: OpenCard | None
    ) -> OpenCard | None:
        """Open the card key with a PIN or PUK; slow (Argon2id) unless `held` was opened by it before.

        Args:
            state: the card.
            reference: which of the two `block` claims to be.
            block: 8 bytes, padded with FF.
            held: what an earlier call gave since power came.

        Returns:
            The open card, or None when the value is wrong.
        """

    def rewrap(
        self, state: PersistentState, card: OpenCard, reference: Reference, block: bytes
    ) -> tuple[ReferenceState, OpenCard]:
        """Wrap the card key under a new PIN or PUK, all its tries given back; slow."""

    def generate(self, state: PersistentState, slot: int, algorithm: Algorithm, policy: PinPolicy) -> SlotKey:
        """Make a key pair for a slot and seal its private half; needs no PIN."""

    def import_key(
        self,
        state: PersistentState,
        slot: int,
        algorithm: Algorithm,
        policy: PinPolicy,
        material: tuple[bytes, ...],
    ) -> SlotKey:
        """Seal a key made elsewhere; needs no PIN.

        Args:
            state: the card.
            slot: where to.
            algorithm: its algorithm.
            policy: its PIN policy.
            material: see `commands.ImportKey`.

        Raises:
            UnusableInput: it is no key of that algorithm.
        """

    def rsa_private(self, state: PersistentState, key: SlotKey, card: OpenCard | None, block: bytes) -> bytes:
        """The bare RSA private operation: block of the modulus' length in, the same length out.

        Raises:
            UnusableInput: another length, or not below the modulus.
        """

    def ecdsa(self, state: PersistentState, key: SlotKey, card: OpenCard | None, digest: bytes) -> bytes:
        """Sign a digest of 1 to 64 bytes, cut to the curve's size; DER.

        Raises:
            UnusableInput: another length.
        """

    def eddsa(self, state: PersistentState, key: SlotKey, card: OpenCard | None, message: bytes) -> bytes:
        """Sign a message with Ed25519 (RFC 8032); 64 bytes."""

    def agree(self, state: PersistentState, key: SlotKey, card: OpenCard | None, point: bytes) -> bytes:
        """ECDH with an uncompressed point, or X25519 with 32 bytes; the shared secret.

        Raises:
            UnusableInput: no point of the curve.
        """

    def sign_certificate(
        self, state: PersistentState, key: SlotKey, builder: x509.CertificateBuilder
    ) -> bytes:
        """Sign a certificate with a key that asks for no PIN; DER.

        Raises:
            UnusableInput: no certificate can be made of that.
        """

    def management_encrypt(self, state: PersistentState, block: bytes) -> bytes:
        """Encrypt one block (8 bytes for 3DES, else 16) under the management key, no chaining mode."""

"""Card keys in software: the hierarchy that keeps a stolen folder from being a stolen card.

::

    slot key ── sealed to ──► card public key          (X25519; making and importing a key needs no PIN)
    card private key ── wrapped under ──► Argon2id(PIN, salt) + device secret
                     ── wrapped under ──► Argon2id(PUK, salt) + device secret
    keys that ask for no PIN (9E), management key ── sealed under ──► device secret

Whoever has the files alone has nothing to guess at; whoever has files and device secret has to pay
Argon2id for each guess. Sealing is AES-256-GCM everywhere, each time under a key of its own, with what
the thing is for as associated data, so that nothing can be put in another's place.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from typing import Final

from argon2.low_level import Type, hash_secret_raw
from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.keys_system import DeviceSecret
from agent.vsc import slot_keys
from agent.vsc.commands import RSA_BITS, Algorithm, ManagementAlgorithm, PinPolicy, Reference
from agent.vsc.key_port import UnusableInput
from agent.vsc.management_cipher import encrypt_block
from agent.vsc.rsa_private import RsaPrivateKey
from agent.vsc.sealing import derive_key, open_with, seal, seal_to, unseal
from agent.vsc.state import (
    PIN_TRIES,
    PUK_TRIES,
    Argon2Cost,
    ManagementKey,
    OpenCard,
    PersistentState,
    ReferenceState,
    SlotKey,
)

_SALT: Final = 16
_MOST_LOADED: Final = 32  # more than a card has slots


# what a slot's key becomes to be used: RSA goes to OpenSSL itself, see `rsa_private`
_Loaded = RsaPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey | X25519PrivateKey


class SealBroken(Exception):
    """Something sealed doesn't open: the card's file was put together by somebody else.

    Attributes:
        purpose: what was to be opened.
    """

    def __init__(self, purpose: str) -> None:
        super().__init__(purpose)
        self.purpose = purpose


@dataclass(slots=True)
class _Open:
    """The card's private key since a PIN opened it; repeats of that PIN cost one keyed hash."""

    private: X25519PrivateKey | None = field(repr=False)
    hash_key: bytes = field(repr=False, default_factory=lambda: os.urandom(32))
    seen: dict[Reference, bytes] = field(repr=False, default_factory=dict)
    loaded: dict[bytes, _Loaded] = field(repr=False, default_factory=dict)

    def remember(self, reference: Reference, block: bytes) -> None:
        self.seen[reference] = self._digest(block)

    def recalls(self, reference: Reference, block: bytes) -> bool | None:
        """Whether it is the value that opened the card; None when this reference never did."""
        known = self.seen.get(reference)
        return None if known is None else hmac.compare_digest(known, self._digest(block))

    def forget(self) -> None:
        self.private = None
        self.hash_key = b""
        self.seen.clear()
        self.loaded.clear()

    def _digest(self, block: bytes) -> bytes:
        return hmac.digest(self.hash_key, block, "sha256")


class SoftwareKeys:
    """A `KeyPort` whose keys live in this process while the card is open, and sealed in its file."""

    def __init__(self, secret: DeviceSecret) -> None:
        """Work under a device secret."""
        self._secret = secret
        self._free: dict[bytes, _Loaded] = {}

    def random_bytes(self, length: int) -> bytes:
        """From the operating system."""
        return os.urandom(length)

    # --- PIN and PUK ---

    def new_card(
        self, card_id: str, pin: bytes, puk: bytes, cost: Argon2Cost
    ) -> tuple[bytes, ReferenceState, ReferenceState]:
        """See `KeyPort`."""
        private = X25519PrivateKey.generate()
        return (
            private.public_key().public_bytes_raw(),
            self._wrap(card_id, cost, Reference.PIN, pin, private, PIN_TRIES),
            self._wrap(card_id, cost, Reference.PUK, puk, private, PUK_TRIES),
        )

    def open_by(
        self, state: PersistentState, reference: Reference, block: bytes, held: OpenCard | None
    ) -> OpenCard | None:
        """See `KeyPort`."""
        if isinstance(held, _Open):
            recalled = held.recalls(reference, block)
            if recalled is not None:
                return held if recalled else None
        entry = state.reference(reference)
        key = self._reference_key(state.card_id, state.cost, reference, block, entry.salt)
        try:
            raw = unseal(key, entry.wrapped, _about(state.card_id, reference.name))
        except InvalidTag:
            return None
        opened = _Open(X25519PrivateKey.from_private_bytes(raw))
        opened.remember(reference, block)
        return opened

    def rewrap(
        self, state: PersistentState, card: OpenCard, reference: Reference, block: bytes
    ) -> tuple[ReferenceState, OpenCard]:
        """See `KeyPort`."""
        private = _private_half(card)
        tries = state.reference(reference).tries_at_most
        entry = self._wrap(state.card_id, state.cost, reference, block, private, tries)
        opened = _Open(private)
        opened.remember(reference, block)
        return entry, opened

    def _wrap(
        self,
        card_id: str,
        cost: Argon2Cost,
        reference: Reference,
        block: bytes,
        private: X25519PrivateKey,
        tries: int,
    ) -> ReferenceState:
        salt = os.urandom(_SALT)
        key = self._reference_key(card_id, cost, reference, block, salt)
        wrapped = seal(key, private.private_bytes_raw(), _about(card_id, reference.name))
        return ReferenceState(salt, wrapped, tries, tries)

    def _reference_key(
        self, card_id: str, cost: Argon2Cost, reference: Reference, block: bytes, salt: bytes
    ) -> bytes:
        """Argon2id of the value, mixed with the device secret: neither is worth anything alone."""
        stretched = hash_secret_raw(
            block.rstrip(b"\xff"), salt, cost.passes, cost.memory_kib, cost.lanes, 32, Type.ID
        )
        secret = self._secret.derive("card reference")
        return derive_key(stretched + secret, salt, _about(card_id, f"key of {reference.name}"))

    # --- management key ---

    def new_management_key(self, card_id: str) -> ManagementKey:
        """Make a random AES-192 management key and seal it."""
        algorithm = ManagementAlgorithm.AES_192
        return self.seal_management_key(card_id, algorithm, os.urandom(24))

    def seal_management_key(
        self, card_id: str, algorithm: ManagementAlgorithm, value: bytes
    ) -> ManagementKey:
        """See `KeyPort`."""
        return ManagementKey(algorithm, seal(self._device_key(card_id), value, _about(card_id, "management")))

    def management_encrypt(self, state: PersistentState, block: bytes) -> bytes:
        """See `KeyPort`."""
        try:
            value = unseal(
                self._device_key(state.card_id),
                state.management.sealed,
                _about(state.card_id, "management"),
            )
        except InvalidTag as error:
            raise SealBroken("management") from error
        return encrypt_block(state.management.algorithm, value, block)

    # --- slot keys ---

    def generate(self, state: PersistentState, slot: int, algorithm: Algorithm, policy: PinPolicy) -> SlotKey:
        """See `KeyPort`."""
        return self._sealed(state, slot, algorithm, policy, slot_keys.generate(algorithm), generated=True)

    def import_key(
        self,
        state: PersistentState,
        slot: int,
        algorithm: Algorithm,
        policy: PinPolicy,
        material: tuple[bytes, ...],
    ) -> SlotKey:
        """See `KeyPort`."""
        private = slot_keys.from_material(algorithm, material)
        return self._sealed(state, slot, algorithm, policy, private, generated=False)

    def rsa_private(self, state: PersistentState, key: SlotKey, card: OpenCard | None, block: bytes) -> bytes:
        """See `KeyPort`."""
        private = self._load(state, key, card)
        if not isinstance(private, RsaPrivateKey):
            raise SealBroken("slot")
        try:
            return private.private_operation(block)
        except ValueError as error:
            raise UnusableInput from error

    def ecdsa(self, state: PersistentState, key: SlotKey, card: OpenCard | None, digest: bytes) -> bytes:
        """See `KeyPort`."""
        private = self._load(state, key, card)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise SealBroken("slot")
        return slot_keys.ecdsa(private, digest)

    def eddsa(self, state: PersistentState, key: SlotKey, card: OpenCard | None, message: bytes) -> bytes:
        """See `KeyPort`."""
        private = self._load(state, key, card)
        if not isinstance(private, Ed25519PrivateKey):
            raise SealBroken("slot")
        return private.sign(message)

    def agree(self, state: PersistentState, key: SlotKey, card: OpenCard | None, point: bytes) -> bytes:
        """See `KeyPort`."""
        private = self._load(state, key, card)
        if not isinstance(private, ec.EllipticCurvePrivateKey | X25519PrivateKey):
            raise SealBroken("slot")
        return slot_keys.agree(private, point)

    def sign_certificate(
        self, state: PersistentState, key: SlotKey, builder: x509.CertificateBuilder
    ) -> bytes:
        """See `KeyPort`."""
        private = serialization.load_der_private_key(self._unsealed(state, key, None), None)
        if isinstance(private, Ed25519PrivateKey):
            algorithm = None
        elif isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            algorithm = hashes.SHA384() if key.algorithm is Algorithm.P_384 else hashes.SHA256()
        else:
            raise SealBroken("slot")
        try:
            return builder.sign(private, algorithm).public_bytes(serialization.Encoding.DER)
        except ValueError as error:
            raise UnusableInput from error

    def _load(self, state: PersistentState, key: SlotKey, card: OpenCard | None) -> _Loaded:
        """The key ready for use; kept while the card is open, for opening costs more than using."""
        cache = self._free if key.pin_policy is PinPolicy.NEVER else _opened(card).loaded
        loaded = cache.get(key.sealed)
        if loaded is None:
            loaded = _usable(key, self._unsealed(state, key, card))
            if len(cache) >= _MOST_LOADED:
                cache.clear()  # keys that were replaced
            cache[key.sealed] = loaded
        return loaded

    def _sealed(
        self,
        state: PersistentState,
        slot: int,
        algorithm: Algorithm,
        policy: PinPolicy,
        private: slot_keys.PrivateKey,
        *,
        generated: bool,
    ) -> SlotKey:
        pkcs8 = private.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        public = private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        about = _about_slot(state.card_id, slot, algorithm, policy, public)
        if policy is PinPolicy.NEVER:
            sealed = seal(self._device_key(state.card_id), pkcs8, about)
        else:
            sealed = seal_to(state.public, pkcs8, about)
        return SlotKey(slot, algorithm, public, sealed, policy, generated)

    def _unsealed(self, state: PersistentState, key: SlotKey, card: OpenCard | None) -> bytes:
        born = key.born or key.slot
        about = _about_slot(state.card_id, born, key.algorithm, key.pin_policy, key.public)
        try:
            if key.pin_policy is PinPolicy.NEVER:
                return unseal(self._device_key(state.card_id), key.sealed, about)
            return open_with(_private_half(card), key.sealed, about)
        except InvalidTag as error:
            raise SealBroken("slot") from error

    def _device_key(self, card_id: str) -> bytes:
        return self._secret.derive(f"card {card_id}")


def _opened(card: OpenCard | None) -> _Open:
    if not isinstance(card, _Open) or card.private is None:
        raise SealBroken("card")  # the engine asks for the PIN first: only a fault gets here
    return card


def _private_half(card: OpenCard | None) -> X25519PrivateKey:
    private = _opened(card).private
    if private is None:
        raise SealBroken("card")
    return private


def _usable(key: SlotKey, pkcs8: bytes) -> _Loaded:
    if key.algorithm in RSA_BITS:
        public = slot_keys.load_public(key.public)
        if not isinstance(public, rsa.RSAPublicKey):
            raise SealBroken("slot")
        return RsaPrivateKey(pkcs8, public.public_numbers().n)
    private = serialization.load_der_private_key(pkcs8, None)
    if not isinstance(private, ec.EllipticCurvePrivateKey | Ed25519PrivateKey | X25519PrivateKey):
        raise SealBroken("slot")
    return private


def _about(card_id: str, purpose: str) -> bytes:
    return f"inlay card {card_id} {purpose}".encode()


def _about_slot(card_id: str, slot: int, algorithm: Algorithm, policy: PinPolicy, public: bytes) -> bytes:
    head = _about(card_id, f"slot {slot:02X} algorithm {algorithm:02X} policy {policy}")
    return head + hashlib.sha256(public).digest()

"""GENERATE ASYMMETRIC KEY PAIR, key import, move and delete, attestation, and metadata.

SP 800-73pt2-5, section 3.3.2; the rest as Yubico's cards of firmware 5.7 have it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from agent.vsc import objects, tlv
from agent.vsc.apdu import StatusError, StatusWord, require
from agent.vsc.attestation import issuer_in, statement_builder
from agent.vsc.commands import (
    ATTESTATION,
    MANAGEMENT,
    RETIRED,
    Attest,
    Generate,
    GetMetadata,
    ImportKey,
    MoveKey,
    Reference,
)
from agent.vsc.key_port import KeyPort, UnusableInput
from agent.vsc.outcome import Outcome
from agent.vsc.slot_keys import public_template
from agent.vsc.state import PersistentState, ReferenceState, SlotKey, VolatileState

VERSION: Final = bytes((5, 7, 1))
"""What GET VERSION says: the card has what Yubico's tools ask of a 5.7."""

_ALGORITHM, _POLICY, _ORIGIN, _PUBLIC, _IS_DEFAULT, _RETRIES = range(1, 7)
_NO_ALGORITHM = b"\xff"  # what stands for the algorithm of a PIN or PUK
_NEVER = 1  # as PIN policy and as touch policy
_ORIGIN_GENERATED, _ORIGIN_IMPORTED = b"\x01", b"\x02"
_SERIAL_BYTES = 16


def generate(state: PersistentState, volatile: VolatileState, command: Generate, keys: KeyPort) -> Outcome:
    """Make a key; the one before it in the slot is gone."""
    require_management(volatile)
    key = keys.generate(state, command.slot, command.algorithm, command.pin_policy)
    return Outcome(_with_key(state, key), volatile, tlv.encode(0x7F49, public_template(key.public)))


def import_key(state: PersistentState, volatile: VolatileState, command: ImportKey, keys: KeyPort) -> Outcome:
    """Take over a key made elsewhere; the one before it in the slot is gone."""
    require_management(volatile)
    try:
        key = keys.import_key(state, command.slot, command.algorithm, command.pin_policy, command.material)
    except UnusableInput as error:
        raise StatusError(StatusWord.WRONG_DATA) from error
    return Outcome(_with_key(state, key), volatile)


def move_key(state: PersistentState, volatile: VolatileState, command: MoveKey) -> Outcome:
    """Move a key to an empty slot with its policy, or delete it; certificates stay where they are."""
    require_management(volatile)
    key = state.slots.get(command.source)
    if key is None:
        raise StatusError(StatusWord.REFERENCE_NOT_FOUND)
    slots = {slot: other for slot, other in state.slots.items() if slot != command.source}
    if command.target is not None:
        require(command.target not in slots, StatusWord.CONDITIONS_NOT_SATISFIED)
        born = key.born or key.slot
        slots[command.target] = msgspec.structs.replace(key, slot=command.target, born=born)
    return Outcome(_with_slots(state, slots, command.source, command.target), volatile)


def attest(state: PersistentState, volatile: VolatileState, command: Attest, keys: KeyPort) -> Outcome:
    """State that a key was made on this card; imported ones are refused."""
    key, signer = state.slots.get(command.slot), state.slots.get(ATTESTATION)
    if key is None or signer is None:
        raise StatusError(StatusWord.REFERENCE_NOT_FOUND)
    require(key.generated, StatusWord.WRONG_DATA)
    issuer = issuer_in(state.objects.get(objects.CERTIFICATE_TAGS[ATTESTATION]), signer)
    if issuer is None:
        raise StatusError(StatusWord.CONDITIONS_NOT_SATISFIED)
    serial = keys.random_bytes(_SERIAL_BYTES)
    try:
        builder = statement_builder(key, issuer, serial, version=VERSION, card_serial=state.serial)
        return Outcome(state, volatile, keys.sign_certificate(state, signer, builder))
    except (ValueError, UnusableInput) as error:  # a host's certificate whose name or dates can't be repeated
        raise StatusError(StatusWord.CONDITIONS_NOT_SATISFIED) from error


def metadata(state: PersistentState, volatile: VolatileState, command: GetMetadata) -> Outcome:
    """Tell what is known about a key, the PIN or the PUK."""
    if command.key == MANAGEMENT:
        fields = [
            (_ALGORITHM, bytes([state.management.algorithm])),
            (_POLICY, bytes([0, _NEVER])),
            (_IS_DEFAULT, bytes([state.management.default])),
        ]
    elif command.key in tuple(Reference):
        fields = _reference_fields(state.reference(Reference(command.key)))
    elif command.key in state.slots:
        fields = _slot_fields(state.slots[command.key])
    else:
        raise StatusError(StatusWord.REFERENCE_NOT_FOUND)
    return Outcome(state, volatile, b"".join(tlv.encode(tag, value) for tag, value in fields))


def require_management(volatile: VolatileState) -> None:
    """Refuse with 6982 unless the management key has been proved."""
    if not volatile.managed:
        raise StatusError(StatusWord.SECURITY_NOT_SATISFIED)


def _reference_fields(entry: ReferenceState) -> list[tuple[int, bytes]]:
    tries = bytes([entry.tries_at_most, entry.tries])
    return [(_ALGORITHM, _NO_ALGORITHM), (_IS_DEFAULT, bytes([entry.default])), (_RETRIES, tries)]


def _slot_fields(key: SlotKey) -> list[tuple[int, bytes]]:
    return [
        (_ALGORITHM, bytes([key.algorithm])),
        (_POLICY, bytes([key.pin_policy, _NEVER])),
        (_ORIGIN, _ORIGIN_GENERATED if key.generated else _ORIGIN_IMPORTED),
        (_PUBLIC, public_template(key.public)),
    ]


def _with_key(state: PersistentState, key: SlotKey) -> PersistentState:
    return _with_slots(state, {**state.slots, key.slot: key}, key.slot)


def _with_slots(state: PersistentState, slots: dict[int, SlotKey], *touched: int | None) -> PersistentState:
    """The state with other keys, and with a key history that says so where it is concerned."""
    stored = objects.with_key_history(state.objects, slots) if set(touched) & set(RETIRED) else state.objects
    return msgspec.structs.replace(state, slots=slots, objects=stored)

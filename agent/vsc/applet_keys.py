"""GENERATE ASYMMETRIC KEY PAIR, key import, and metadata.

SP 800-73pt2-5, section 3.3.2; import and metadata as Yubico's cards have them (firmware 5.3 and later).
"""

from __future__ import annotations

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agent.vsc import tlv
from agent.vsc.apdu import StatusError, StatusWord
from agent.vsc.commands import MANAGEMENT, Generate, GetMetadata, ImportKey, Reference
from agent.vsc.key_port import KeyPort, UnusableInput
from agent.vsc.outcome import Outcome
from agent.vsc.state import PersistentState, ReferenceState, SlotKey, VolatileState

_ALGORITHM, _POLICY, _ORIGIN, _PUBLIC, _IS_DEFAULT, _RETRIES = range(1, 7)
_NO_ALGORITHM = b"\xff"  # what stands for the algorithm of a PIN or PUK
_NEVER = 1  # as PIN policy and as touch policy
_ORIGIN_GENERATED, _ORIGIN_IMPORTED = b"\x01", b"\x02"
_NOT_DEFAULT = b"\x00"  # PIN, PUK and management key are random or chosen from the start


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


def metadata(state: PersistentState, volatile: VolatileState, command: GetMetadata) -> Outcome:
    """Tell what is known about a key, the PIN or the PUK."""
    if command.key == MANAGEMENT:
        fields = [
            (_ALGORITHM, bytes([state.management.algorithm])),
            (_POLICY, bytes([0, _NEVER])),
            (_IS_DEFAULT, _NOT_DEFAULT),
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


def public_template(public: bytes) -> bytes:
    """The content of tag 7F49 for a SubjectPublicKeyInfo: 81 n, 82 e, or 86 point."""
    key = serialization.load_der_public_key(public)
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return tlv.encode(0x81, _unsigned(numbers.n)) + tlv.encode(0x82, _unsigned(numbers.e))
    if isinstance(key, ec.EllipticCurvePublicKey):
        point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        return tlv.encode(0x86, point)
    raise TypeError(type(key).__name__)


def _reference_fields(entry: ReferenceState) -> list[tuple[int, bytes]]:
    tries = bytes([entry.tries_at_most, entry.tries])
    return [(_ALGORITHM, _NO_ALGORITHM), (_IS_DEFAULT, _NOT_DEFAULT), (_RETRIES, tries)]


def _slot_fields(key: SlotKey) -> list[tuple[int, bytes]]:
    return [
        (_ALGORITHM, bytes([key.algorithm])),
        (_POLICY, bytes([key.pin_policy, _NEVER])),
        (_ORIGIN, _ORIGIN_GENERATED if key.generated else _ORIGIN_IMPORTED),
        (_PUBLIC, public_template(key.public)),
    ]


def _with_key(state: PersistentState, key: SlotKey) -> PersistentState:
    return msgspec.structs.replace(state, slots={**state.slots, key.slot: key})


def _unsigned(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")

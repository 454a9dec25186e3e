"""The card's commands as types: a whole APDU becomes one of them, or a status word.

Every limit of the standard that doesn't depend on the card's state is checked here, so that the
engine (`agent.vsc.applet`) only ever sees well-formed commands. SP 800-73pt2-5, section 3; the
commands marked *Yubico* are that maker's, because its tools expect them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

from agent.vsc import tlv
from agent.vsc.apdu import Apdu, StatusError, StatusWord, require

PIV_AID: Final = bytes.fromhex("A000000308000010000100")
SHORTEST_AID: Final = 5  # the RID alone
MAX_OBJECT_BYTES: Final = 12_288
REFERENCE_BYTES: Final = 8

SELECT, GET_DATA, PUT_DATA, VERIFY = 0xA4, 0xCB, 0xDB, 0x20
CHANGE_REFERENCE, RESET_RETRY, GENERAL_AUTHENTICATE, GENERATE = 0x24, 0x2C, 0x87, 0x47
GET_RESPONSE, GET_VERSION, GET_SERIAL, GET_METADATA, IMPORT_KEY = 0xC0, 0xFD, 0xF8, 0xF7, 0xFE

MANAGEMENT: Final = 0x9B
SLOTS: Final = frozenset({0x9A, 0x9C, 0x9D, 0x9E, *range(0x82, 0x96)})
"""Authentication, signature, key management, card authentication, retired key management 1 to 20."""


class Algorithm(enum.IntEnum):
    """Algorithms of slot keys (SP 800-78-5, table 8)."""

    RSA_2048 = 0x07
    P_256 = 0x11


class ManagementAlgorithm(enum.IntEnum):
    """Algorithms of the management key (SP 800-78-5, table 8)."""

    AES_192 = 0x0A


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
        material: RSA: p and q, 128 bytes each; P-256: the scalar, 32 bytes.
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


DataCommand = Select | GetData | PutData | GetMetadata | GetVersion | GetSerial
"""Commands that need no key."""

Command = DataCommand | Verify | LogOut | ChangeReference | ResetRetry | Authenticate | Generate | ImportKey


def parse_command(apdu: Apdu) -> Command:
    """Turn an APDU, its chain already put together, into a command.

    Raises:
        StatusError: 6700, 6A80, 6A82, 6A84, 6A86, 6A88 or 6D00, as the fault asks for.
    """
    parser = _PARSERS.get(apdu.ins)
    if parser is None:
        raise StatusError(StatusWord.INSTRUCTION_UNKNOWN)
    try:
        return parser(apdu)
    except tlv.TlvError as error:
        raise StatusError(StatusWord.WRONG_DATA) from error


def is_known_instruction(ins: int) -> bool:
    """Whether the card has this instruction at all."""
    return ins in _PARSERS


def _select(apdu: Apdu) -> Command:
    require(apdu.p1 == 0x04 and apdu.p2 == 0x00, StatusWord.WRONG_PARAMETERS)
    return Select(len(apdu.data) >= SHORTEST_AID and PIV_AID.startswith(apdu.data))


def _get_data(apdu: Apdu) -> Command:
    _require_parameters(apdu, 0x3F, 0xFF)
    return GetData(_object_tag(tlv.parse_one(apdu.data, 0x5C)))


def _put_data(apdu: Apdu) -> Command:
    _require_parameters(apdu, 0x3F, 0xFF)
    tag, rest = tlv.parse_first(apdu.data, 0x5C)
    value = tlv.parse_one(rest, 0x53)
    require(len(value) <= MAX_OBJECT_BYTES, StatusWord.NO_SPACE)
    return PutData(_object_tag(tag), value)


def _object_tag(value: bytes) -> int:
    require(1 <= len(value) <= tlv.MAX_TAG_BYTES, StatusWord.WRONG_DATA)
    return int.from_bytes(value, "big")


def _verify(apdu: Apdu) -> Command:
    require(apdu.p1 in (0x00, 0xFF), StatusWord.WRONG_PARAMETERS)
    require(apdu.p2 == Reference.PIN, StatusWord.REFERENCE_NOT_FOUND)
    if apdu.p1 == 0xFF:
        require(not apdu.data, StatusWord.WRONG_DATA)
        return LogOut()
    if not apdu.data:
        return Verify(None)
    require(len(apdu.data) == REFERENCE_BYTES, StatusWord.WRONG_LENGTH)
    return Verify(apdu.data)


def _change_reference(apdu: Apdu) -> Command:
    require(apdu.p1 == 0x00, StatusWord.WRONG_PARAMETERS)
    require(apdu.p2 in (Reference.PIN, Reference.PUK), StatusWord.REFERENCE_NOT_FOUND)
    old, new = _two_blocks(apdu.data)
    return ChangeReference(Reference(apdu.p2), old, new)


def _reset_retry(apdu: Apdu) -> Command:
    require(apdu.p1 == 0x00, StatusWord.WRONG_PARAMETERS)
    require(apdu.p2 == Reference.PIN, StatusWord.REFERENCE_NOT_FOUND)
    return ResetRetry(*_two_blocks(apdu.data))


def _two_blocks(data: bytes) -> tuple[bytes, bytes]:
    require(len(data) == 2 * REFERENCE_BYTES, StatusWord.WRONG_LENGTH)
    return data[:REFERENCE_BYTES], data[REFERENCE_BYTES:]


def is_reference_value(block: bytes) -> bool:
    """Whether an 8-byte block is a PIN or PUK: 6 to 8 printable ASCII bytes, then FF only.

    SP 800-73pt1-5, section 2.4.3; printable characters beyond digits as real cards admit them.
    """
    value = block.rstrip(b"\xff")
    return len(block) == REFERENCE_BYTES and len(value) >= 6 and all(0x20 <= byte <= 0x7E for byte in value)


def _authenticate(apdu: Apdu) -> Command:
    fields = tlv.parse_map(tlv.parse_one(apdu.data, 0x7C))
    require(bool(fields) and fields.keys() <= {0x80, 0x81, 0x82, 0x85}, StatusWord.WRONG_DATA)
    return Authenticate(
        apdu.p1, apdu.p2, fields.get(0x80), fields.get(0x81), fields.get(0x82), fields.get(0x85)
    )


def _generate(apdu: Apdu) -> Command:
    require(apdu.p1 == 0x00 and apdu.p2 in SLOTS, StatusWord.WRONG_PARAMETERS)
    fields = tlv.parse_map(tlv.parse_one(apdu.data, 0xAC))
    require(0x80 in fields and fields.keys() <= {0x80, 0xAA, 0xAB}, StatusWord.WRONG_DATA)
    return Generate(apdu.p2, _algorithm(fields.pop(0x80)), _policies(apdu.p2, fields))


def _import_key(apdu: Apdu) -> Command:
    require(apdu.p2 in SLOTS, StatusWord.WRONG_PARAMETERS)
    algorithm = _algorithm(bytes([apdu.p1]))
    fields = tlv.parse_map(apdu.data)
    policy = _policies(apdu.p2, {tag: fields.pop(tag) for tag in (0xAA, 0xAB) if tag in fields})
    if algorithm is Algorithm.P_256:
        require(fields.keys() == {0x06} and len(fields[0x06]) == 32, StatusWord.WRONG_DATA)
        return ImportKey(apdu.p2, algorithm, policy, (fields[0x06],))
    # d mod (p-1), d mod (q-1) and q^-1 (03 to 05) follow from p and q: taking them over could only add a fault
    require({0x01, 0x02} <= fields.keys() <= {0x01, 0x02, 0x03, 0x04, 0x05}, StatusWord.WRONG_DATA)
    require(all(0 < len(value) <= 128 for value in fields.values()), StatusWord.WRONG_DATA)
    return ImportKey(apdu.p2, algorithm, policy, (fields[0x01], fields[0x02]))


def _algorithm(value: bytes) -> Algorithm:
    require(len(value) == 1 and value[0] in tuple(Algorithm), StatusWord.WRONG_DATA)
    return Algorithm(value[0])


def _policies(slot: int, fields: dict[int, bytes]) -> PinPolicy:
    """The PIN policy that is meant; a touch policy is refused, for nothing here can be touched."""
    pin, touch = fields.get(0xAA, b"\x00"), fields.get(0xAB, b"\x00")
    require(len(pin) == 1 and pin[0] in tuple(PinPolicy), StatusWord.WRONG_DATA)
    require(touch in (b"\x00", b"\x01"), StatusWord.WRONG_DATA)
    return default_pin_policy(slot) if pin == b"\x00" else PinPolicy(pin[0])


def default_pin_policy(slot: int) -> PinPolicy:
    """The standard's rule for a slot (SP 800-73pt1-5, table 5): 9C always, 9E never, else once."""
    return {0x9C: PinPolicy.ALWAYS, 0x9E: PinPolicy.NEVER}.get(slot, PinPolicy.ONCE)


def _get_version(apdu: Apdu) -> Command:
    _require_parameters(apdu, 0x00, 0x00)
    return GetVersion()


def _get_serial(apdu: Apdu) -> Command:
    _require_parameters(apdu, 0x00, 0x00)
    return GetSerial()


def _get_metadata(apdu: Apdu) -> Command:
    require(apdu.p1 == 0x00, StatusWord.WRONG_PARAMETERS)
    return GetMetadata(apdu.p2)


def _require_parameters(apdu: Apdu, p1: int, p2: int) -> None:
    require((apdu.p1, apdu.p2) == (p1, p2), StatusWord.WRONG_PARAMETERS)


_PARSERS: Final = {
    SELECT: _select,
    GET_DATA: _get_data,
    PUT_DATA: _put_data,
    VERIFY: _verify,
    CHANGE_REFERENCE: _change_reference,
    RESET_RETRY: _reset_retry,
    GENERAL_AUTHENTICATE: _authenticate,
    GENERATE: _generate,
    IMPORT_KEY: _import_key,
    GET_VERSION: _get_version,
    GET_SERIAL: _get_serial,
    GET_METADATA: _get_metadata,
}

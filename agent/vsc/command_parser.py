"""A whole APDU becomes one of the typed commands, or a status word.

Every limit of the standard that doesn't depend on the card's state is checked here, so that the
engine (`agent.vsc.applet`) only ever sees well-formed commands. SP 800-73pt2-5, section 3.
"""

from __future__ import annotations

from typing import Final

from agent.vsc import commands, tlv
from agent.vsc.apdu import Apdu, StatusError, StatusWord, require
from agent.vsc.commands import (
    ATTESTATION,
    MANAGEMENT,
    MAX_OBJECT_BYTES,
    PIV_AID,
    REFERENCE_BYTES,
    RSA_BITS,
    SCALAR_BYTES,
    SLOTS,
    Algorithm,
    Attest,
    Authenticate,
    ChangeReference,
    Command,
    Generate,
    GetData,
    GetMetadata,
    GetSerial,
    GetVersion,
    ImportKey,
    LogOut,
    ManagementAlgorithm,
    MoveKey,
    PinPolicy,
    PutData,
    Reference,
    ResetCard,
    ResetRetry,
    Select,
    SetManagementKey,
    SetRetries,
    Verify,
    default_pin_policy,
)

SHORTEST_AID: Final = 5  # the RID alone
RSA_EXPONENT: Final = 65_537

_SCALAR_TAGS: Final = {
    Algorithm.P_256: 0x06,
    Algorithm.P_384: 0x06,
    Algorithm.ED25519: 0x07,
    Algorithm.X25519: 0x08,
}
_TOUCH: Final = (0xFF, 0xFE, 0xFD)  # never, always, cached: nothing here can be touched
_DELETE: Final = 0xFF


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


def _authenticate(apdu: Apdu) -> Command:
    fields = tlv.parse_map(tlv.parse_one(apdu.data, 0x7C))
    require(bool(fields) and fields.keys() <= {0x80, 0x81, 0x82, 0x85}, StatusWord.WRONG_DATA)
    return Authenticate(
        apdu.p1, apdu.p2, fields.get(0x80), fields.get(0x81), fields.get(0x82), fields.get(0x85)
    )


def _generate(apdu: Apdu) -> Command:
    require(apdu.p1 == 0x00 and _holds_key(apdu.p2), StatusWord.WRONG_PARAMETERS)
    fields = tlv.parse_map(tlv.parse_one(apdu.data, 0xAC))
    require(0x80 in fields and fields.keys() <= {0x80, 0x81, 0xAA, 0xAB}, StatusWord.WRONG_DATA)
    algorithm = _algorithm(apdu.p2, fields.pop(0x80))
    exponent = fields.pop(0x81, None)  # of RSA, and there is one that every key here has
    usual = algorithm in RSA_BITS and int.from_bytes(exponent or b"", "big") == RSA_EXPONENT
    require(exponent is None or usual, StatusWord.WRONG_DATA)
    return Generate(apdu.p2, algorithm, _policies(apdu.p2, fields))


def _import_key(apdu: Apdu) -> Command:
    require(_holds_key(apdu.p2), StatusWord.WRONG_PARAMETERS)
    algorithm = _algorithm(apdu.p2, bytes([apdu.p1]))
    fields = tlv.parse_map(apdu.data)
    policy = _policies(apdu.p2, {tag: fields.pop(tag) for tag in (0xAA, 0xAB) if tag in fields})
    if algorithm in _SCALAR_TAGS:
        tag = _SCALAR_TAGS[algorithm]
        require(fields.keys() == {tag} and len(fields[tag]) == SCALAR_BYTES[algorithm], StatusWord.WRONG_DATA)
        return ImportKey(apdu.p2, algorithm, policy, (fields[tag],))
    # d mod (p-1), d mod (q-1) and q^-1 (03 to 05) follow from p and q: taking them over could only add a fault
    require({0x01, 0x02} <= fields.keys() <= {0x01, 0x02, 0x03, 0x04, 0x05}, StatusWord.WRONG_DATA)
    longest = RSA_BITS[algorithm] // 16
    require(all(0 < len(value) <= longest for value in fields.values()), StatusWord.WRONG_DATA)
    return ImportKey(apdu.p2, algorithm, policy, (fields[0x01], fields[0x02]))


def _holds_key(reference: int) -> bool:
    return reference in SLOTS or reference == ATTESTATION


def _algorithm(slot: int, value: bytes) -> Algorithm:
    require(len(value) == 1 and value[0] in tuple(Algorithm), StatusWord.WRONG_DATA)
    algorithm = Algorithm(value[0])
    require(slot != ATTESTATION or algorithm is not Algorithm.X25519, StatusWord.WRONG_DATA)  # it has to sign
    return algorithm


def _policies(slot: int, fields: dict[int, bytes]) -> PinPolicy:
    """The PIN policy that is meant; a touch policy is refused, for nothing here can be touched."""
    pin, touch = fields.get(0xAA, b"\x00"), fields.get(0xAB, b"\x00")
    require(len(pin) == 1 and pin[0] in tuple(PinPolicy), StatusWord.WRONG_DATA)
    require(touch in (b"\x00", b"\x01"), StatusWord.WRONG_DATA)
    policy = default_pin_policy(slot) if pin == b"\x00" else PinPolicy(pin[0])
    require(slot != ATTESTATION or policy is PinPolicy.NEVER, StatusWord.WRONG_DATA)
    return policy


def _get_version(apdu: Apdu) -> Command:
    _require_parameters(apdu, 0x00, 0x00)
    return GetVersion()


def _get_serial(apdu: Apdu) -> Command:
    _require_parameters(apdu, 0x00, 0x00)
    return GetSerial()


def _get_metadata(apdu: Apdu) -> Command:
    require(apdu.p1 == 0x00, StatusWord.WRONG_PARAMETERS)
    return GetMetadata(apdu.p2)


def _move_key(apdu: Apdu) -> Command:
    target = None if apdu.p1 == _DELETE else apdu.p1
    # the attestation key may be deleted, never moved
    require(apdu.p2 in SLOTS or (apdu.p2 == ATTESTATION and target is None), StatusWord.WRONG_PARAMETERS)
    require(target is None or (target in SLOTS and target != apdu.p2), StatusWord.WRONG_PARAMETERS)
    require(not apdu.data, StatusWord.WRONG_LENGTH)
    return MoveKey(apdu.p2, target)


def _attest(apdu: Apdu) -> Command:
    require(apdu.p1 in SLOTS and apdu.p2 == 0x00, StatusWord.WRONG_PARAMETERS)
    require(not apdu.data, StatusWord.WRONG_LENGTH)
    return Attest(apdu.p1)


def _set_retries(apdu: Apdu) -> Command:
    require(apdu.p1 > 0 and apdu.p2 > 0, StatusWord.WRONG_PARAMETERS)
    require(not apdu.data, StatusWord.WRONG_LENGTH)
    return SetRetries(apdu.p1, apdu.p2)


def _reset_card(apdu: Apdu) -> Command:
    _require_parameters(apdu, 0x00, 0x00)
    require(not apdu.data, StatusWord.WRONG_LENGTH)
    return ResetCard()


def _set_management_key(apdu: Apdu) -> Command:
    """The key's algorithm in a byte, then the key as a data object with its reference as tag."""
    require(apdu.p1 == 0xFF and apdu.p2 in _TOUCH, StatusWord.WRONG_PARAMETERS)
    require(bool(apdu.data) and apdu.data[0] in tuple(ManagementAlgorithm), StatusWord.WRONG_DATA)
    algorithm = ManagementAlgorithm(apdu.data[0])
    value = tlv.parse_one(apdu.data[1:], MANAGEMENT)
    require(len(value) == algorithm.key_bytes, StatusWord.WRONG_DATA)
    return SetManagementKey(algorithm, value)


def _require_parameters(apdu: Apdu, p1: int, p2: int) -> None:
    require((apdu.p1, apdu.p2) == (p1, p2), StatusWord.WRONG_PARAMETERS)


_PARSERS: Final = {
    commands.SELECT: _select,
    commands.GET_DATA: _get_data,
    commands.PUT_DATA: _put_data,
    commands.VERIFY: _verify,
    commands.CHANGE_REFERENCE: _change_reference,
    commands.RESET_RETRY: _reset_retry,
    commands.GENERAL_AUTHENTICATE: _authenticate,
    commands.GENERATE: _generate,
    commands.IMPORT_KEY: _import_key,
    commands.GET_VERSION: _get_version,
    commands.GET_SERIAL: _get_serial,
    commands.GET_METADATA: _get_metadata,
    commands.MOVE_KEY: _move_key,
    commands.ATTEST: _attest,
    commands.SET_RETRIES: _set_retries,
    commands.RESET_CARD: _reset_card,
    commands.SET_MANAGEMENT_KEY: _set_management_key,
}

INSTRUCTIONS: Final = frozenset(_PARSERS)
"""What the card knows, but for GET RESPONSE, which is transmission's."""

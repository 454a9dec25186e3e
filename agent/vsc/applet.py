"""The PIV card: a pure function from (state, volatile state, APDU) to new states and an answer.

No clock, no disk, no socket. Randomness and cryptography come through a `KeyPort`. A command is a
generator: whatever it yields has to be on the disk before it goes on (see `agent.vsc.outcome`).

The layers, from the outside in: bytes to APDU (`apdu`), chaining and GET RESPONSE (here), APDU to
command (`commands`), command to outcome (`applet_*`). A refused command leaves both states as they
were, but for the tries it spent, the PIN it lost and the authentication it broke off.
"""

from __future__ import annotations

from typing import Final, assert_never

from msgspec.structs import replace

from agent.vsc import applet_card, applet_data, applet_keys, applet_reference
from agent.vsc.apdu import (
    CLA_CHAINED,
    SHORT_LE_ALL,
    Apdu,
    StatusError,
    StatusWord,
    parse_apdu,
    require,
    require_class,
)
from agent.vsc.applet_authenticate import authenticate, used
from agent.vsc.command_parser import is_known_instruction, parse_command
from agent.vsc.commands import (
    GENERAL_AUTHENTICATE,
    GENERATE,
    GET_RESPONSE,
    IMPORT_KEY,
    MANAGEMENT,
    MAX_OBJECT_BYTES,
    PUT_DATA,
    Attest,
    Authenticate,
    CardCommand,
    ChangeReference,
    Command,
    DataCommand,
    Generate,
    GetData,
    GetMetadata,
    GetSerial,
    GetVersion,
    ImportKey,
    KeyCommand,
    LogOut,
    MoveKey,
    PutData,
    ResetCard,
    ResetRetry,
    Select,
    SetManagementKey,
    SetRetries,
    Verify,
)
from agent.vsc.key_port import KeyPort
from agent.vsc.outcome import Outcome, Step
from agent.vsc.state import Chain, PendingAuthentication, PersistentState, VolatileState

MAX_COMMAND_BYTES: Final = MAX_OBJECT_BYTES + 16
"""Most bytes of data a command may have, chained or extended: the largest object with its tags."""

_CHAINABLE: Final = frozenset({GENERAL_AUTHENTICATE, PUT_DATA, GENERATE, IMPORT_KEY})


def process(state: PersistentState, volatile: VolatileState, raw: bytes, keys: KeyPort) -> Step:
    """Answer one APDU, whatever bytes it is.

    Args:
        state: the card.
        volatile: since power came.
        raw: the APDU, any bytes at all.
        keys: the card's keys.

    Returns:
        A generator; its outcome's `data` and `status` are the answer, cut to what the APDU expects.
    """
    try:
        apdu = parse_apdu(raw)
        require_class(apdu.cla)
        if apdu.ins == GET_RESPONSE:
            return _get_response(state, volatile, apdu)
        require(is_known_instruction(apdu.ins), StatusWord.INSTRUCTION_UNKNOWN)
        if apdu.cla == CLA_CHAINED:
            return Outcome(state, _begin_or_extend_chain(volatile, apdu))
        apdu = _whole(apdu, volatile)
        command = parse_command(apdu)
        require(volatile.selected or isinstance(command, Select), StatusWord.CONDITIONS_NOT_SATISFIED)
    except StatusError as error:
        broken = replace(volatile, chain=None, pending=None, outgoing=b"")
        return Outcome(state, broken, status=error.status)
    volatile = replace(volatile, chain=None, outgoing=b"")
    try:
        outcome = yield from _dispatch(state, volatile, command, keys)
    except StatusError as error:
        outcome = Outcome(state, _after_refusal(volatile, command), status=error.status)
    return _cut(outcome, apdu.expected)


def _dispatch(state: PersistentState, volatile: VolatileState, command: Command, keys: KeyPort) -> Step:
    # an authentication is answered by the very next command or not at all
    pending, volatile = volatile.pending, replace(volatile, pending=None)
    match command:
        case Verify() | LogOut() | ChangeReference() | ResetRetry():
            return (yield from applet_reference.about_reference(state, volatile, command, keys))
        case Authenticate() | Generate() | ImportKey() | MoveKey() | Attest():
            return _about_key(state, volatile, command, keys, pending)
        case SetRetries() | ResetCard() | SetManagementKey():
            return _about_card(state, volatile, command, keys)
        case _:
            return _read_or_write(state, volatile, command)


def _about_key(
    state: PersistentState,
    volatile: VolatileState,
    command: KeyCommand,
    keys: KeyPort,
    pending: PendingAuthentication | None,
) -> Outcome:
    match command:
        case Authenticate():
            return authenticate(state, volatile, command, keys, pending)
        case Generate():
            return applet_keys.generate(state, volatile, command, keys)
        case ImportKey():
            return applet_keys.import_key(state, volatile, command, keys)
        case MoveKey():
            return applet_keys.move_key(state, volatile, command)
        case Attest():
            return applet_keys.attest(state, volatile, command, keys)
        case _:
            assert_never(command)


def _about_card(
    state: PersistentState, volatile: VolatileState, command: CardCommand, keys: KeyPort
) -> Outcome:
    match command:
        case SetRetries():
            return applet_card.set_retries(state, volatile, command, keys)
        case ResetCard():
            return applet_card.reset_card(state, volatile, keys)
        case SetManagementKey():
            return applet_card.set_management_key(state, volatile, command, keys)
        case _:
            assert_never(command)


def _read_or_write(state: PersistentState, volatile: VolatileState, command: DataCommand) -> Outcome:
    """The commands that need no key."""
    match command:
        case Select():
            return applet_data.select(state, volatile, command)
        case GetData():
            return applet_data.get_data(state, volatile, command)
        case PutData():
            return applet_data.put_data(state, volatile, command)
        case GetMetadata():
            return applet_keys.metadata(state, volatile, command)
        case GetVersion():
            return Outcome(state, volatile, applet_keys.VERSION)
        case GetSerial():
            return Outcome(state, volatile, state.serial)
        case _:
            assert_never(command)


def _after_refusal(volatile: VolatileState, command: Command) -> VolatileState:
    """What even a refused command takes away."""
    volatile = replace(volatile, pending=None)
    match command:
        case Authenticate(key=key) if key == MANAGEMENT:
            return replace(volatile, managed=False)
        case Authenticate():
            return used(volatile)
        case _:
            return volatile


def _begin_or_extend_chain(volatile: VolatileState, apdu: Apdu) -> VolatileState:
    require(apdu.ins in _CHAINABLE, StatusWord.CHAINING_NOT_SUPPORTED)
    data = _gathered(volatile, apdu) + apdu.data
    require(len(data) <= MAX_COMMAND_BYTES, StatusWord.WRONG_LENGTH)
    volatile = replace(volatile, outgoing=b"")
    return replace(volatile, chain=Chain(apdu.ins, apdu.p1, apdu.p2, data))


def _whole(apdu: Apdu, volatile: VolatileState) -> Apdu:
    apdu = replace(apdu, data=_gathered(volatile, apdu) + apdu.data)
    require(len(apdu.data) <= MAX_COMMAND_BYTES, StatusWord.WRONG_LENGTH)
    return apdu


def _gathered(volatile: VolatileState, apdu: Apdu) -> bytes:
    """The pieces before this one; a command with another header drops them."""
    chain = volatile.chain
    if chain is None or (chain.ins, chain.p1, chain.p2) != (apdu.ins, apdu.p1, apdu.p2):
        return b""
    return chain.data


def _get_response(state: PersistentState, volatile: VolatileState, apdu: Apdu) -> Outcome:
    require((apdu.p1, apdu.p2, apdu.data) == (0, 0, b""), StatusWord.WRONG_PARAMETERS)
    require(bool(volatile.outgoing), StatusWord.CONDITIONS_NOT_SATISFIED)
    return _cut(Outcome(state, volatile, volatile.outgoing), apdu.expected)


def _cut(outcome: Outcome, expected: int | None) -> Outcome:
    """Hand out no more than Le bytes (256 without Le) and keep the rest for GET RESPONSE.

    ISO 7816-4, section 5.3.4.
    """
    most = SHORT_LE_ALL if expected is None else expected
    rest = outcome.data[most:]
    volatile = replace(outcome.volatile, outgoing=rest)
    if not rest:
        return replace(outcome, volatile=volatile)
    status = StatusWord.MORE | (len(rest) if len(rest) < SHORT_LE_ALL else 0)
    return Outcome(outcome.state, volatile, outcome.data[:most], status)

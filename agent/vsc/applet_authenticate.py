"""GENERAL AUTHENTICATE: the management key's two ways of authentication, and the use of private keys.

SP 800-73pt2-5, section 3.2.4 and appendix A.
"""

from __future__ import annotations

import hmac
from typing import Final

from msgspec.structs import replace

from agent.vsc import tlv
from agent.vsc.apdu import StatusError, StatusWord
from agent.vsc.commands import (
    MANAGEMENT,
    RETIRED,
    RSA_BITS,
    SLOTS,
    Algorithm,
    Authenticate,
    ManagementAlgorithm,
    PinPolicy,
)
from agent.vsc.key_port import KeyPort, UnusableInput
from agent.vsc.outcome import Outcome
from agent.vsc.slot_keys import CURVES
from agent.vsc.state import PendingAuthentication, PersistentState, SlotKey, VolatileState

_TEMPLATE, _WITNESS, _CHALLENGE, _RESPONSE = 0x7C, 0x80, 0x81, 0x82
_3DES_BY_DEFAULT: Final = 0x00  # another number of the same algorithm (SP 800-78-5, table 8)

AGREEMENT_SLOTS: Final = frozenset({0x9D, *RETIRED})
"""EC keys here only agree, EC keys elsewhere only sign (SP 800-73pt1-5, section 5.5 and table 5).

Ed25519 and X25519 aren't the standard's: they do the one thing that they can in every slot, as on
Yubico's cards.
"""


def authenticate(
    state: PersistentState,
    volatile: VolatileState,
    command: Authenticate,
    keys: KeyPort,
    pending: PendingAuthentication | None,
) -> Outcome:
    """GENERAL AUTHENTICATE.

    Args:
        state: the card.
        volatile: without a pending authentication; each answer gets one attempt.
        command: the template.
        keys: the card's keys.
        pending: the authentication that the command before this one began.
    """
    if command.key == MANAGEMENT:
        return _management(state, volatile, command, keys, pending)
    if command.key not in SLOTS:
        raise StatusError(StatusWord.WRONG_PARAMETERS)
    return _private_key(state, volatile, command, keys)


def _management(
    state: PersistentState,
    volatile: VolatileState,
    command: Authenticate,
    keys: KeyPort,
    pending: PendingAuthentication | None,
) -> Outcome:
    own = state.management.algorithm
    asked = ManagementAlgorithm.TDES if command.algorithm == _3DES_BY_DEFAULT else command.algorithm
    match command:
        case Authenticate(witness=None, challenge=b"", response=None, point=None):
            return _external_challenge(state, volatile, asked, keys)
        case _ if asked != own:
            raise StatusError(StatusWord.WRONG_PARAMETERS)
        case Authenticate(witness=b"", challenge=None, response=None, point=None):
            witness = keys.random_bytes(own.block_bytes)
            volatile = replace(volatile, pending=PendingAuthentication("mutual", witness))
            return _answer(state, volatile, _WITNESS, keys.management_encrypt(state, witness))
        case Authenticate(witness=None, challenge=None, response=bytes() as response, point=None):
            _require_answer(pending, "external", response)
            return Outcome(state, replace(volatile, managed=True))
        case Authenticate(
            witness=bytes() as witness, challenge=bytes() as challenge, response=None | b"", point=None
        ):
            if len(challenge) != own.block_bytes:
                raise StatusError(StatusWord.WRONG_DATA)
            _require_answer(pending, "mutual", witness)
            answer = keys.management_encrypt(state, challenge)
            return _answer(state, replace(volatile, managed=True), _RESPONSE, answer)
        case _:
            raise StatusError(StatusWord.WRONG_DATA)


def _external_challenge(
    state: PersistentState, volatile: VolatileState, asked: int, keys: KeyPort
) -> Outcome:
    """Hand out a challenge.

    OpenSC asks for one under 3DES when it wants random bytes. It gets them, whatever the key is; where
    the key is another's, nothing can answer that challenge.
    """
    own = state.management.algorithm
    if asked == own:
        challenge = keys.random_bytes(own.block_bytes)
        expected = keys.management_encrypt(state, challenge)
        volatile = replace(volatile, pending=PendingAuthentication("external", expected))
        return _answer(state, volatile, _CHALLENGE, challenge)
    if asked == ManagementAlgorithm.TDES:
        return _answer(state, volatile, _CHALLENGE, keys.random_bytes(ManagementAlgorithm.TDES.block_bytes))
    raise StatusError(StatusWord.WRONG_PARAMETERS)


def _require_answer(pending: PendingAuthentication | None, mode: str, given: bytes) -> None:
    """Raises 6985 when nothing was asked, 6982 when the answer is wrong."""
    if pending is None or pending.mode != mode:
        raise StatusError(StatusWord.CONDITIONS_NOT_SATISFIED)
    if not hmac.compare_digest(pending.expected, given):
        raise StatusError(StatusWord.SECURITY_NOT_SATISFIED)


def _private_key(
    state: PersistentState, volatile: VolatileState, command: Authenticate, keys: KeyPort
) -> Outcome:
    key = state.slots.get(command.key)
    if key is None:
        raise StatusError(StatusWord.REFERENCE_NOT_FOUND)
    if command.algorithm != key.algorithm:
        raise StatusError(StatusWord.WRONG_PARAMETERS)
    if not may_use(key, volatile):
        raise StatusError(StatusWord.SECURITY_NOT_SATISFIED)
    try:
        result = _operate(state, volatile, command, key, keys)
    except UnusableInput as error:
        raise StatusError(StatusWord.WRONG_DATA) from error
    return _answer(state, used(volatile), _RESPONSE, result)


def _operate(
    state: PersistentState, volatile: VolatileState, command: Authenticate, key: SlotKey, keys: KeyPort
) -> bytes:
    card = volatile.open_card
    agrees = key.slot in AGREEMENT_SLOTS
    match command:
        case Authenticate(witness=None, challenge=bytes() as data, response=b"", point=None):
            if key.algorithm in RSA_BITS:
                return keys.rsa_private(state, key, card, data)
            if key.algorithm in CURVES and not agrees:
                return keys.ecdsa(state, key, card, data)
            if key.algorithm is Algorithm.ED25519:
                return keys.eddsa(state, key, card, data)
        case Authenticate(witness=None, challenge=None, response=b"", point=bytes() as data):
            if (key.algorithm in CURVES and agrees) or key.algorithm is Algorithm.X25519:
                return keys.agree(state, key, card, data)
        case _:
            pass
    raise StatusError(StatusWord.WRONG_DATA)


def may_use(key: SlotKey, volatile: VolatileState) -> bool:
    """Whether the PIN's state admits the key (SP 800-73pt1-5, table 5)."""
    match key.pin_policy:
        case PinPolicy.NEVER:
            return True
        case PinPolicy.ALWAYS:
            return volatile.pin_fresh
        case PinPolicy.ONCE | PinPolicy.DEFAULT:
            return volatile.pin_verified


def used(volatile: VolatileState) -> VolatileState:
    """A private key was used, or tried: *always* keys want the PIN again."""
    return replace(volatile, pin_fresh=False)


def _answer(state: PersistentState, volatile: VolatileState, tag: int, value: bytes) -> Outcome:
    return Outcome(state, volatile, tlv.encode(_TEMPLATE, tlv.encode(tag, value)))

"""What changes the whole card, as Yubico's tools do it: tries, management key, reset.

After SET PIN RETRIES and RESET the PIN is 123456 and the PUK 12345678, after RESET the management key is
the well-known one: the tools say so and count on it. The metadata tell, so that a host can insist on
others. A card that was made by an order never has them.
"""

from __future__ import annotations

import datetime
from typing import Final

import msgspec

from agent.vsc import objects
from agent.vsc.apdu import StatusError, StatusWord, require
from agent.vsc.applet_keys import require_management
from agent.vsc.applet_reference import closed
from agent.vsc.commands import ATTESTATION, ManagementAlgorithm, Reference, SetManagementKey, SetRetries
from agent.vsc.key_port import KeyPort
from agent.vsc.management_cipher import is_degenerate
from agent.vsc.outcome import Outcome
from agent.vsc.state import PersistentState, ReferenceState, VolatileState

DEFAULT_PIN: Final = b"123456\xff\xff"
DEFAULT_PUK: Final = b"12345678"
DEFAULT_MANAGEMENT_KEY: Final = bytes.fromhex("0102030405060708" * 3)
DEFAULT_MANAGEMENT_ALGORITHM: Final = ManagementAlgorithm.AES_192

_GUID_BYTES: Final = 16
_UNIQUE_BYTES: Final = 14
_NO_EXPIRY: Final = datetime.date(2099, 12, 31)


def set_management_key(
    state: PersistentState, volatile: VolatileState, command: SetManagementKey, keys: KeyPort
) -> Outcome:
    """Replace the management key; the authentication by the old one lasts."""
    require_management(volatile)
    require(not is_degenerate(command.algorithm, command.value), StatusWord.WRONG_DATA)
    sealed = keys.seal_management_key(state.card_id, command.algorithm, command.value)
    return Outcome(msgspec.structs.replace(state, management=sealed), volatile)


def set_retries(
    state: PersistentState, volatile: VolatileState, command: SetRetries, keys: KeyPort
) -> Outcome:
    """Set how many tries PIN and PUK have; both get their default values, and nobody is logged in."""
    require_management(volatile)
    card = volatile.open_card
    if card is None or not volatile.pin_verified:
        raise StatusError(StatusWord.SECURITY_NOT_SATISFIED)
    for reference, block, tries in (
        (Reference.PUK, DEFAULT_PUK, command.puk),
        (Reference.PIN, DEFAULT_PIN, command.pin),
    ):
        entry = msgspec.structs.replace(state.reference(reference), tries_at_most=tries)
        state = state.with_reference(reference, entry)
        wrapped, _ = keys.rewrap(state, card, reference, block)
        state = state.with_reference(reference, _default(wrapped))
    return Outcome(state, closed(volatile))


def reset_card(state: PersistentState, volatile: VolatileState, keys: KeyPort) -> Outcome:
    """Make an empty card of one whose PIN and PUK are blocked; the attestation key alone stays.

    It gets a new GUID: programs that knew the old card must not take it for that.
    """
    require(state.pin.tries == 0 and state.puk.tries == 0, StatusWord.CONDITIONS_NOT_SATISFIED)
    public, pin, puk = keys.new_card(state.card_id, DEFAULT_PIN, DEFAULT_PUK, state.cost)
    management = keys.seal_management_key(state.card_id, DEFAULT_MANAGEMENT_ALGORITHM, DEFAULT_MANAGEMENT_KEY)
    guid = keys.random_bytes(_GUID_BYTES)
    expires = objects.chuid_expiry(state.objects.get(objects.CHUID, b"")) or _NO_EXPIRY
    stored = {
        objects.CHUID: objects.chuid(guid, expires),
        objects.CCC: objects.capabilities(keys.random_bytes(_UNIQUE_BYTES)),
        objects.KEY_HISTORY: objects.key_history(),
    }
    kept = objects.CERTIFICATE_TAGS[ATTESTATION]
    if kept in state.objects:
        stored[kept] = state.objects[kept]
    empty = msgspec.structs.replace(
        state,
        guid=guid,
        public=public,
        pin=_default(pin),
        puk=_default(puk),
        management=msgspec.structs.replace(management, default=True),
        objects=stored,
        slots={slot: key for slot, key in state.slots.items() if slot == ATTESTATION},
    )
    return Outcome(empty, VolatileState(selected=closed(volatile).selected))


def _default(entry: ReferenceState) -> ReferenceState:
    return msgspec.structs.replace(entry, default=True)

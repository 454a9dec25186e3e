"""VERIFY, CHANGE REFERENCE DATA, RESET RETRY COUNTER: everything that spends tries.

SP 800-73pt2-5, sections 3.2.1 to 3.2.3. A try is spent, and that is on the disk, before anything is
compared: whoever cuts the power at the right moment has gained nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import assert_never

from msgspec.structs import replace

from agent.vsc.apdu import StatusError, StatusWord
from agent.vsc.commands import (
    ChangeReference,
    LogOut,
    Reference,
    ReferenceCommand,
    ResetRetry,
    Verify,
    is_reference_value,
)
from agent.vsc.key_port import KeyPort
from agent.vsc.outcome import Outcome, Step
from agent.vsc.state import OpenCard, PersistentState, VolatileState

MOST_TRIES_SHOWN = 15  # the status word has four bits for them


def about_reference(
    state: PersistentState, volatile: VolatileState, command: ReferenceCommand, keys: KeyPort
) -> Step:
    """Any of the commands of this module."""
    match command:
        case Verify():
            return (yield from verify(state, volatile, command, keys))
        case ChangeReference():
            return (yield from change_reference(state, volatile, command, keys))
        case ResetRetry():
            return (yield from reset_retry(state, volatile, command, keys))
        case LogOut():
            return log_out(state, volatile)
        case _:
            assert_never(command)


def verify(state: PersistentState, volatile: VolatileState, command: Verify, keys: KeyPort) -> Step:
    """VERIFY, with a PIN or asking for the status alone."""
    if command.block is None:
        return Outcome(state, volatile, status=_pin_status(state, volatile))
    state, opened = yield from _compare(state, volatile, Reference.PIN, command.block, keys)
    if opened is None:
        return _wrong(state, volatile, Reference.PIN)
    volatile = replace(volatile, pin_verified=True, pin_fresh=True, open_card=opened)
    return Outcome(_all_tries(state, Reference.PIN), volatile)


def log_out(state: PersistentState, volatile: VolatileState) -> Outcome:
    """VERIFY with P1=FF. The open card stays, so that the same PIN is quick; nothing can use it."""
    return Outcome(state, replace(volatile, pin_verified=False, pin_fresh=False))


def change_reference(
    state: PersistentState, volatile: VolatileState, command: ChangeReference, keys: KeyPort
) -> Step:
    """CHANGE REFERENCE DATA of the PIN or the PUK, by the old value."""
    reference = command.reference
    _require_form(command.old, command.new)
    state, opened = yield from _compare(state, volatile, reference, command.old, keys)
    if opened is None:
        return _wrong(state, volatile, reference)
    wrapped, opened = keys.rewrap(state, opened, reference, command.new)
    state = state.with_reference(reference, wrapped)
    if reference is Reference.PIN:
        volatile = replace(volatile, pin_verified=True, pin_fresh=True, open_card=opened)
    return Outcome(state, volatile)


def reset_retry(state: PersistentState, volatile: VolatileState, command: ResetRetry, keys: KeyPort) -> Step:
    """RESET RETRY COUNTER: a new PIN by the PUK; the PIN isn't verified by it."""
    _require_form(command.puk, command.new)
    state, opened = yield from _compare(state, volatile, Reference.PUK, command.puk, keys)
    if opened is None:  # the standard has a wrong PUK end what the PIN allows
        return _wrong(state, replace(volatile, pin_verified=False, pin_fresh=False), Reference.PUK)
    wrapped, _ = keys.rewrap(state, opened, Reference.PIN, command.new)
    state = _all_tries(state, Reference.PUK).with_reference(Reference.PIN, wrapped)
    return Outcome(state, closed(volatile))


def closed(volatile: VolatileState) -> VolatileState:
    """The volatile state with nothing open: the PIN is gone and has to be compared at full cost."""
    if volatile.open_card is not None:
        volatile.open_card.forget()
    return replace(volatile, pin_verified=False, pin_fresh=False, open_card=None)


def _compare(
    state: PersistentState, volatile: VolatileState, reference: Reference, block: bytes, keys: KeyPort
) -> Generator[PersistentState, None, tuple[PersistentState, OpenCard | None]]:
    """Spend a try, durably, then compare."""
    entry = state.reference(reference)
    if entry.tries == 0:
        raise StatusError(StatusWord.BLOCKED)
    state = state.with_reference(reference, replace(entry, tries=entry.tries - 1))
    yield state
    if not is_reference_value(block):
        return state, None
    return state, keys.open_by(state, reference, block, volatile.open_card)


def _wrong(state: PersistentState, volatile: VolatileState, reference: Reference) -> Outcome:
    tries = state.reference(reference).tries
    if reference is Reference.PIN:
        volatile = replace(volatile, pin_verified=False, pin_fresh=False) if tries else closed(volatile)
    return Outcome(state, volatile, status=StatusWord.TRIES_LEFT | min(tries, MOST_TRIES_SHOWN))


def _all_tries(state: PersistentState, reference: Reference) -> PersistentState:
    entry = state.reference(reference)
    return state.with_reference(reference, replace(entry, tries=entry.tries_at_most))


def _pin_status(state: PersistentState, volatile: VolatileState) -> int:
    if volatile.pin_verified:
        return StatusWord.OK
    if state.pin.tries == 0:
        return StatusWord.BLOCKED
    return StatusWord.TRIES_LEFT | min(state.pin.tries, MOST_TRIES_SHOWN)


def _require_form(old: bytes, new: bytes) -> None:
    """A new value that isn't one is refused before a try is spent on the old one.

    Unless the old one can't be right either: then it costs a try, which is how Yubico's tools block a
    card before they reset it. SP 800-73pt2-5, section 3.2.2, leaves the choice.
    """
    if is_reference_value(old) and not is_reference_value(new):
        raise StatusError(StatusWord.WRONG_DATA)

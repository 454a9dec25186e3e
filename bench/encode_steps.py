"""The steps in which a new card is encoded, and which of them an APDU belongs to.

Other programs do the job step by step, so theirs are counted as they go. An order's APDUs are told apart by what they
are and by what came before: this is what counts its steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

FIND: Final = "find the card"
KEY: Final = "management key"
PUK: Final = "a PUK of its own"
PIN: Final = "PIN, by the PUK"
IDENTITY: Final = "CHUID and CCC"
KEYS: Final = "three keys"
REQUESTS: Final = "two requests signed"
WRITE: Final = "three certificates"
NEW_KEY: Final = "its management key"
BACK: Final = "read back"
PROOFS: Final = "proofs"

STEPS: Final = (FIND, KEY, PUK, PIN, IDENTITY, KEYS, REQUESTS, WRITE, NEW_KEY, BACK, PROOFS)
"""All of them, as the tables have them."""
SHOWN_TO_BE_THERE: Final = frozenset({BACK, PROOFS})
"""What changes nothing: it shows that everything is on the card, and that each key is its certificate's."""
BY_ALL: Final = frozenset({FIND, KEY})
"""What a program needs for whatever it does."""

_CERTIFICATES: Final = (bytes.fromhex("5FC105"), bytes.fromhex("5FC10A"), bytes.fromhex("5FC10B"))
_TAG_AT: Final = slice(7, 10)
"""Where the object's tag stands in GET DATA and PUT DATA."""
_SELECT, _GET, _PUT, _METADATA, _VERIFY, _USE = 0xA4, 0xCB, 0xDB, 0xF7, 0x20, 0x87
_CHANGE, _UNBLOCK, _GENERATE, _SET_KEY = 0x24, 0x2C, 0x47, 0xFF
_MANAGEMENT, _PUK = 0x9B, 0x81
_CHAINED: Final = 0x10
_HEADER: Final = 4
"""VERIFY without data asks, of whatever command came before it, whether the application is still there."""
_BY_INSTRUCTION: Final = {_CHANGE: PUK, _UNBLOCK: PIN, _GENERATE: KEYS, _SET_KEY: NEW_KEY}


def count(apdus: Iterable[bytes]) -> dict[str, int]:
    """How many APDUs of an order each step has.

    Args:
        apdus: of one order, from the look at its card to the last proof.
    """
    found = dict.fromkeys(STEPS, 0)
    step, chained, selected, changed = FIND, False, 0, False
    for apdu in apdus:
        if not chained:
            selected += apdu[1] == _SELECT
            changed = changed or apdu[1] == _CHANGE
            step = _step(apdu, step, looked=selected > 1, changed=changed, written=found[WRITE] > 0)
        chained = bool(apdu[0] & _CHAINED)
        found[step] += 1
    return found


def _step(apdu: bytes, before: str, *, looked: bool, changed: bool, written: bool) -> str:
    """The step of a command; GET RESPONSE, and what keeps a card alive, belong to the one before.

    Args:
        apdu: its first piece.
        before: the step of the command before it.
        looked: the look at the card, which asks what it can do, is over.
        changed: the PUK was changed.
        written: certificates were.
    """
    instruction, reference, tag = apdu[1], apdu[3], apdu[_TAG_AT]
    if not looked or (before == FIND and instruction in (_SELECT, _GET, _VERIFY)):
        return FIND
    if reference == _MANAGEMENT and instruction in (_USE, _METADATA):
        return KEY
    if instruction in (_GET, _PUT) and len(apdu) > _TAG_AT.stop:
        reads = instruction == _GET
        return (BACK if reads else WRITE) if tag in _CERTIFICATES else IDENTITY
    if instruction == _USE or (instruction == _VERIFY and len(apdu) > _HEADER):
        return PROOFS if written else REQUESTS
    if instruction == _METADATA and reference == _PUK:
        return PIN if changed else PUK
    return _BY_INSTRUCTION.get(instruction, before)

"""PIN pads: what a host tells a reader that asks for a PIN itself (PC/SC part 10, v2.02.09).

The PIN goes from the keys of the reader to the card: neither this process nor any other on this machine ever has it.
Nothing here does I/O; ``agent.pcsc.piv_pad`` uses it with a card.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from protocol.errors import InlayError

FEATURE_REQUEST: Final = 3400
"""CM_IOCTL_GET_FEATURE_REQUEST (part 10, 2.2)."""
VERIFY_PIN_DIRECT, MODIFY_PIN_DIRECT, TLV_PROPERTIES = 0x06, 0x07, 0x12
ENTRY_SECONDS: Final = 30
"""How long the reader waits for a key."""

_CODE_BYTES: Final = 4
_BLOCK_BYTES: Final = 8
"""A PIV PIN or PUK fills eight bytes (SP 800-73pt2-5, 3.2)."""
_ASCII_LEFT: Final = 0x82
"""bmFormatString: units are bytes, the PIN stands at offset 0 behind the header, justified left, ASCII (2.5.2)."""
_VALIDATION_KEY: Final = 0x02
"""bEntryValidationCondition: the person presses the key that confirms; a longest length alone would cut a PIN off."""
_ASK_OLD_AND_CONFIRM: Final = 0x03
"""bConfirmPIN: the old value is asked for, and the new one twice."""
_ENGLISH_US: Final = 0x0409
_PROLOGUE: Final = bytes(3)

_MOST_DIGITS: Final = 255
"""What is more is as much: both properties are one byte, and a reader may send more."""
_MIN_PIN, _MAX_PIN = 6, 7
"""Properties bMinPINSize and bMaxPINSize (2.6.14)."""


@dataclass(frozen=True, slots=True)
class Pad:
    """What a reader with a pad can do.

    Attributes:
        verify: control code that has it ask for a PIN; None when it can't.
        modify: control code that has it ask for an old and a new PIN.
        properties: control code that has it tell more of itself.
    """

    verify: int | None
    modify: int | None
    properties: int | None = None


def pad_of(features: bytes) -> Pad | None:
    """Read a reader's answer to the feature request: elements of tag, length 4, and a big-endian control code.

    Returns:
        What it can do; None when it has no pad, or its answer isn't one: a reader without a pad may answer anything.
    """
    found: dict[int, int] = {}
    rest = features
    while rest:
        if len(rest) < 2 + _CODE_BYTES or rest[1] != _CODE_BYTES:
            return None
        found[rest[0]] = int.from_bytes(rest[2:6], "big")
        rest = rest[2 + _CODE_BYTES :]
    if VERIFY_PIN_DIRECT not in found and MODIFY_PIN_DIRECT not in found:
        return None
    return Pad(found.get(VERIFY_PIN_DIRECT), found.get(MODIFY_PIN_DIRECT), found.get(TLV_PROPERTIES))


def pin_lengths(properties: bytes, shortest: int, longest: int) -> tuple[int, int]:
    """What PIN lengths pad and policy have in common.

    Args:
        properties: the reader's answer to the properties request; whatever can't be read is passed over.
        shortest: the policy's.
        longest: the policy's.

    Raises:
        InlayError: ``pad_too_small``: there is none.
    """
    rest = properties
    while len(rest) >= 2 and len(rest) >= 2 + rest[1]:
        tag, value = rest[0], rest[2 : 2 + rest[1]]
        rest = rest[2 + rest[1] :]
        number = min(int.from_bytes(value, "little"), _MOST_DIGITS)
        if tag == _MIN_PIN:
            shortest = max(shortest, number)
        elif tag == _MAX_PIN and number:
            longest = min(longest, number)
    if shortest > longest:
        raise InlayError("pad_too_small", shortest=shortest, longest=longest)
    return shortest, longest


def verify_structure(apdu: bytes, shortest: int, longest: int) -> bytes:
    """PIN_VERIFY_STRUCTURE (2.5.2) for VERIFY.

    Args:
        apdu: VERIFY with eight bytes FF where the PIN goes.
        shortest: PIN that the pad takes, in digits.
        longest: PIN that the pad takes.
    """
    head = struct.pack(
        "<BBBBBHBBHB",
        ENTRY_SECONDS,
        ENTRY_SECONDS,
        _ASCII_LEFT,
        _BLOCK_BYTES,
        0,  # bmPINLengthFormat: the card is told no length
        shortest << 8 | longest,
        _VALIDATION_KEY,
        1,  # bNumberMessage
        _ENGLISH_US,
        0,  # bMsgIndex: "enter PIN"
    )
    return head + _PROLOGUE + struct.pack("<I", len(apdu)) + apdu


def modify_structure(apdu: bytes, shortest: int, longest: int) -> bytes:
    """PIN_MODIFY_STRUCTURE (2.5.3) for CHANGE REFERENCE DATA and RESET RETRY COUNTER.

    Args:
        apdu: the command with sixteen bytes FF: the value that is known, then the new PIN.
        shortest: value that the pad takes, in digits, old or new.
        longest: value that it takes.
    """
    head = struct.pack(
        "<BBBBBBBHBBBHBBB",
        ENTRY_SECONDS,
        ENTRY_SECONDS,
        _ASCII_LEFT,
        _BLOCK_BYTES,
        0,
        0,  # bInsertionOffsetOld
        _BLOCK_BYTES,  # bInsertionOffsetNew
        shortest << 8 | longest,
        _ASK_OLD_AND_CONFIRM,
        _VALIDATION_KEY,
        3,  # bNumberMessage: old, new, new again
        _ENGLISH_US,
        0,
        1,
        2,
    )
    return head + _PROLOGUE + struct.pack("<I", len(apdu)) + apdu


_PAD_STATUS: Final = {
    0x6400: "pad_timeout",
    0x6401: "pad_cancelled",
    0x6402: "pad_not_repeated",
    0x6403: "pad_length",
    0x6B80: "pad_refused",
}
"""Status words of the pad itself (2.5.2, 2.5.3): nothing went to the card, and no try was spent."""


def refusal(status: int) -> InlayError | None:
    """What the pad itself says; None when the status is the card's."""
    code = _PAD_STATUS.get(status)
    return None if code is None else InlayError(code)

"""PIN and PUK of a PIV card by the keys of the reader: verify, change, unblock; see ``agent.pcsc.pin_pad``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.pcsc import pin_pad, piv_pin
from agent.pcsc.apdu import Answer, Command
from agent.pcsc.piv_names import PIN, PUK
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.pcsc.connection import CardConnection
    from agent.pcsc.pin_pad import Pad

_VERIFY, _CHANGE, _RESET_RETRY = 0x20, 0x24, 0x2C
_EMPTY: Final = b"\xff" * piv_pin.REFERENCE_BYTES


def pad_in(card: CardConnection) -> Pad | None:
    """The pad of the reader that a card is in; None when it has none.

    Raises:
        InlayError: ``pcsc_…``: card or service have gone.
    """
    try:
        features = card.ask_reader(pin_pad.FEATURE_REQUEST)
    except InlayError as error:
        if error.code != "pcsc_failed":
            raise
        return None  # a reader that knows no features refuses the question
    return pin_pad.pad_of(features)


def verify(card: CardConnection, pad: Pad, shortest: int = 6, longest: int = 8) -> None:
    """Have the reader ask for the PIN, and VERIFY it: one try, if the person types one.

    Args:
        card: a selected card.
        pad: its reader's pad.
        shortest: PIN that is taken.
        longest: PIN that is taken.

    Raises:
        InlayError: ``pad_…``: nothing went to the card; ``card_pin_wrong``, ``card_pin_blocked``, ``pcsc_…``.
    """
    code = _required(pad.verify)
    lengths = _lengths(card, pad, shortest, longest)
    command = Command(_VERIFY, 0, PIN, _EMPTY, answer=False)
    structure = pin_pad.verify_structure(_apdu(command), *lengths)
    answer = card.enter(code, structure)
    _see_that_pad_agrees(answer)
    piv_pin.judge(card, command, answer, PIN)


def change(card: CardConnection, pad: Pad, reference: int, shortest: int = 6, longest: int = 8) -> None:
    """Have the reader ask for the old value and twice for the new one: CHANGE REFERENCE DATA.

    Raises:
        InlayError: as `verify`.
    """
    _modify(card, pad, Command(_CHANGE, 0, reference, _EMPTY * 2, answer=False), reference, shortest, longest)


def unblock(card: CardConnection, pad: Pad, shortest: int = 6, longest: int = 8) -> None:
    """Have the reader ask for the PUK and twice for a new PIN: RESET RETRY COUNTER.

    Raises:
        InlayError: as `verify`, of the PUK.
    """
    _modify(card, pad, Command(_RESET_RETRY, 0, PIN, _EMPTY * 2, answer=False), PUK, shortest, longest)


def _modify(
    card: CardConnection, pad: Pad, command: Command, reference: int, shortest: int, longest: int
) -> None:
    code = _required(pad.modify)
    lengths = _lengths(card, pad, shortest, longest)
    structure = pin_pad.modify_structure(_apdu(command), *lengths)
    answer = card.enter(code, structure)
    _see_that_pad_agrees(answer)
    piv_pin.judge_new(card, command, answer, reference)


def _see_that_pad_agrees(answer: Answer) -> None:
    said = pin_pad.refusal(answer.status)
    if said is not None:
        raise said


def _lengths(card: CardConnection, pad: Pad, shortest: int, longest: int) -> tuple[int, int]:
    if pad.properties is None:
        return shortest, longest
    return pin_pad.pin_lengths(card.ask_reader_by(pad.properties), shortest, longest)


def _required(code: int | None) -> int:
    if code is None:
        raise InlayError("pad_missing")
    return code


def _apdu(command: Command) -> bytes:
    return bytes((0, command.instruction, command.p1, command.p2, len(command.data))) + command.data

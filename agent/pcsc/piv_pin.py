"""PIN and PUK: verify, change, unblock, and how many tries are left. No function here spends a try unasked.

SP 800-73pt2-5, sections 3.2.1 to 3.2.3. Values go out padded with FF to 8 bytes: cards answer 6700 to anything else.
"""

from __future__ import annotations

from typing import Final

from agent.pcsc import tlv
from agent.pcsc.apdu import Answer, Card, Command
from agent.pcsc.piv_names import PIN, PUK
from agent.pcsc.status import CONDITIONS, FAILED, NOT_AUTHORISED, WRONG_DATA, WRONG_LENGTH, refusal, tries_in
from protocol.errors import InlayError

Secret = bytes | bytearray
"""A PIN or PUK: the caller's, who wipes it."""

REFERENCE_BYTES: Final = 8
_PADDING: Final = b"\xff"
_VERIFY, _CHANGE, _RESET_RETRY = 0x20, 0x24, 0x2C
_DEFAULT_TAG, _TRIES_TAG = 0x05, 0x06


def tries_left(card: Card, reference: int = PIN) -> int | None:
    """How many tries are left, asked without spending one; None when the card doesn't tell.

    Args:
        card: a selected card.
        reference: PIN or PUK; of the PUK only metadata tells.

    Raises:
        InlayError: ``pcsc_…``, ``card_answer_malformed``.
    """
    metadata = card.send(Command(0xF7, 0, reference))
    if metadata.ok:
        try:
            found = tlv.find(metadata.data, _TRIES_TAG)
        except tlv.TlvError:
            found = None
        if found is not None and len(found) in (1, 2):
            return found[-1]  # all there are, then those left; or these alone
    if reference != PIN:
        return None
    status = _pin_state(card)
    return 0 if status == FAILED else tries_in(status)  # of the cards that say 630x


def is_makers(card: Card, reference: int) -> bool | None:
    """Whether PIN or PUK is the one that the card came with, asked without spending a try; None: it doesn't tell.

    Raises:
        InlayError: ``pcsc_…``, ``card_answer_malformed``.
    """
    metadata = card.send(Command(0xF7, 0, reference))
    try:
        found = tlv.find(metadata.data, _DEFAULT_TAG) if metadata.ok else None
    except tlv.TlvError:
        found = None
    return found == b"\x01" if found in (b"\x00", b"\x01") else None


def verify(card: Card, pin: Secret) -> None:
    """VERIFY the PIN: one try.

    Args:
        card: a selected card, in a transaction.
        pin: 1 to 8 bytes; the caller's, who wipes it.

    Raises:
        InlayError: ``card_pin_wrong`` with ``tries``, ``card_pin_blocked``, ``card_pin_form``, ``card_refused``;
            ``card_contacts_needed``: it takes no PIN by this reader, and none was compared.
    """
    command = Command(_VERIFY, 0, PIN, _padded(pin), answer=False)
    judge(card, command, card.send(command), PIN)


def _pin_state(card: Card) -> int:
    return card.send(Command(_VERIFY, 0, PIN, answer=False)).status


def log_out(card: Card) -> bool:
    """Have the card forget that the PIN was verified; False when it can't without a reset."""
    return card.send(Command(_VERIFY, 0xFF, PIN, answer=False)).ok


def change(card: Card, reference: int, old: Secret, new: Secret) -> None:
    """CHANGE REFERENCE DATA of PIN or PUK: one try of the old one.

    Raises:
        InlayError: ``card_pin_wrong``, ``card_puk_wrong`` with ``tries``, ``card_pin_blocked``, ``card_puk_blocked``,
            ``card_pin_form``, ``card_refused``.
    """
    command = Command(_CHANGE, 0, reference, _padded(old) + _padded(new), answer=False)
    judge_new(card, command, card.send(command), reference)


def unblock(card: Card, puk: Secret, new_pin: Secret) -> None:
    """RESET RETRY COUNTER: a new PIN by the PUK, one try of it.

    Raises:
        InlayError: ``card_puk_wrong`` with ``tries``, ``card_puk_blocked``, ``card_pin_form``, ``card_refused``.
    """
    command = Command(_RESET_RETRY, 0, PIN, _padded(puk) + _padded(new_pin), answer=False)
    judge_new(card, command, card.send(command), PUK)


def _padded(value: Secret) -> bytes:
    raw = bytes(value)
    if not 1 <= len(raw) <= REFERENCE_BYTES:
        raise InlayError("card_pin_form")
    return raw.ljust(REFERENCE_BYTES, _PADDING)


def judge_new(card: Card, command: Command, answer: Answer, reference: int) -> None:
    """As `judge`, of a command that brings a new value: cards with rules of their own say 6985 of one against them.

    Raises:
        InlayError: as `judge`; ``card_pin_form``.
    """
    if answer.status == CONDITIONS:
        raise InlayError("card_pin_form")
    judge(card, command, answer, reference)


def judge(card: Card, command: Command, answer: Answer, reference: int) -> None:
    """Read a card's answer to a command with a PIN or PUK, wherever it was typed.

    Where the card says no more than that a value was wrong it is asked how many tries are left. That it was wrong is
    known then, whatever comes of the question.

    Raises:
        InlayError: as `verify` and its neighbours, named for the reference whose value was typed.
    """
    try:
        _plain(command, answer, reference)
    except InlayError as error:
        if not error.code.endswith("_wrong") or "tries" in error.fields:
            raise
        left = _left_after(card, answer, reference)
        if left is None:
            raise
        what = "pin" if reference == PIN else "puk"
        raise (
            InlayError(f"card_{what}_wrong", tries=left) if left else InlayError(f"card_{what}_blocked")
        ) from None


def _left_after(card: Card, answer: Answer, reference: int) -> int | None:
    """Tries left, asked after an answer that doesn't tell them; None where nobody learns it.

    Raises:
        InlayError: ``card_contacts_needed``: the card says the same to whoever types nothing, so none was compared.
    """
    try:
        left = tries_left(card, reference)
        state = _pin_state(card) if left is None else None
    except InlayError:
        return None
    if state == answer.status == NOT_AUTHORISED:
        raise InlayError("card_contacts_needed")
    if state is not None and answer.status == FAILED and state & 0xFFF0 == FAILED:
        return 0  # it tells tries as 630x: so this has told them
    return left


def _plain(command: Command, answer: Answer, reference: int) -> None:
    """What the answer says by itself."""
    if answer.ok:
        return
    what = "pin" if reference == PIN else "puk"
    tries = tries_in(answer.status)
    if tries is not None:
        if tries == 0:
            raise InlayError(f"card_{what}_blocked")
        raise InlayError(f"card_{what}_wrong", tries=tries)
    if answer.status in (WRONG_DATA, WRONG_LENGTH):
        raise InlayError("card_pin_form")
    if answer.status in (NOT_AUTHORISED, FAILED):  # some say this of a wrong old value, without the tries
        raise InlayError(f"card_{what}_wrong")
    raise refusal(command, answer.status)

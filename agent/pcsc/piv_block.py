"""PIN and PUK of a PIV card made unusable: wrong values until the card says that no try is left.

SP 800-73pt2-5, sections 3.2.1 and 3.2.3: VERIFY and RESET RETRY COUNTER answer 6983 then, and only a reset helps, where
the card has one (``agent.pcsc.piv_reset``). Each try is sent to the very card that is meant, in one transaction with
the look at its CHUID. Doing it again is harmless.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from agent.pcsc import piv_objects, piv_pin, piv_select
from agent.pcsc.apdu import Command
from agent.pcsc.piv_names import PIN, PUK
from agent.pcsc.status import FAILED, NOT_AUTHORISED, refusal, tries_in
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.pcsc.connection import CardConnection

_MOST: Final = 15
"""Tries that a status word can tell (63CF): more than these are never sent to a card that tells nothing."""
_UNTOLD: Final = (NOT_AUTHORISED, FAILED)
"""What some cards say of a wrong value, without the tries that are left."""


def block(card: CardConnection, guid: str, sending: Callable[[], object] = lambda: None) -> None:
    """Run the tries of PIN and PUK down to none; what is blocked already is left so.

    Args:
        card: the card.
        guid: of its CHUID, 32 hexadecimal digits.
        sending: called before each try.

    Raises:
        InlayError: ``card_other``: it is another card, which was told nothing; ``card_refused``; ``pcsc_…``.
    """
    _run_down(card, guid, PIN, sending)
    if _run_down(card, guid, PUK, sending):  # a PUK that was guessed right has given the card a PIN
        _run_down(card, guid, PIN, sending)
        _run_down(card, guid, PUK, sending)


def _run_down(card: CardConnection, guid: str, reference: int, sending: Callable[[], object]) -> bool:
    """Run one counter down; whether a value was right by chance, which begins the count anew."""
    budget: int | None = None
    guessed = told = older = False
    while True:
        with card.held():
            _see_that_it_is(card, guid)
            left = piv_pin.tries_left(card, reference)
            if left == 0:
                return guessed
            budget = (left or _MOST) + 1 if budget is None else budget
            command = _wrong(reference)
            if budget == 0:
                if told or left is not None:
                    raise refusal(command, NOT_AUTHORISED)
                return guessed  # it never tells, and no counter that the standard can tell has more tries
            budget -= 1
            sending()
            answer = card.send(command)
        told = told or tries_in(answer.status) is not None
        none_left = tries_in(answer.status) == 0 or (older and answer.status == FAILED)
        older = answer.status & 0xFFF0 == FAILED != answer.status  # it tells them as 630x
        if answer.ok and not guessed:
            guessed, budget = True, None
        elif none_left:
            return guessed
        elif tries_in(answer.status) is None and answer.status not in _UNTOLD:
            raise refusal(command, answer.status)


def _wrong(reference: int) -> Command:
    """A command with a value that is another each time: of two at most one can be right."""
    if reference == PIN:
        return Command(0x20, 0, PIN, _digits(), answer=False)
    return Command(0x2C, 0, PIN, _digits() + _digits(), answer=False)


def _digits() -> bytes:
    """8 digits: cards refuse other characters without counting a try."""
    return f"{secrets.randbelow(10**8):08}".encode()


def _see_that_it_is(card: CardConnection, guid: str) -> None:
    piv_select.select(card)
    chuid = piv_objects.read_chuid(card)
    if chuid is None or chuid.guid.hex() != guid:
        raise InlayError("card_other")

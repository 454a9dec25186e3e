"""Asking for a PIN or PUK that is known, as often as the card has tries, and never spending one unasked.

Used by the person's own commands and by orders: the window is either's. A wrong value is told with the tries that are
left, a warning stands before the last but one and the last, and a blocked PIN or PUK ends it by its own name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from agent.pin_rules import PIV_PIN_BYTES, PIV_PIN_MINIMUM, keeps_rules
from agent.ports import KnownSecret, WindowFailed
from agent.tries import tries_warning
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from agent.card_ports import CardKeeping, CardStanding
    from agent.pin_rules import PinRules
    from agent.ports import Consented


class Question(Protocol):
    """Asks for the known value and a new PIN; ``warning`` stands above."""

    def __call__(self, warning: str | None) -> Awaitable[Consented]:
        """Ask, and wait for the answer."""


class Change(Protocol):
    """Has the card take what was typed; both belong to the caller."""

    def __call__(self, known: bytearray, new: bytearray) -> Awaitable[None]:
        """Say that it is done now and can't be cancelled, and do it.

        Raises:
            InlayError: ``pin_wrong``, ``puk_wrong``: it is asked again; any other ends it.
        """


def known_pin(standing: CardStanding) -> KnownSecret:
    """The field for the PIN that a card has now."""
    return KnownSecret("PIN of the card", PIV_PIN_MINIMUM, standing.longest_pin)


def known_puk() -> KnownSecret:
    """The field for a PUK."""
    return KnownSecret("PUK (unblocking code)", PIV_PIN_MINIMUM, PIV_PIN_BYTES)


async def set_new_pin(
    cards: CardKeeping,
    card: str,
    by: Literal["PIN", "PUK"],
    question: Question,
    change: Change,
    rules: PinRules | None = None,
) -> None:
    """Ask for what is known and a new PIN until the card takes them.

    Args:
        cards: the cards.
        card: which.
        by: what is known: the PIN (change) or the PUK (unblock).
        question: asks the person.
        change: has the card take what was typed.
        rules: the rules for the new PIN; the card's own by default.

    Raises:
        InlayError: ``pin_blocked``, ``puk_blocked``, ``user_cancelled``, ``card_write_failed`` …
    """
    wrong: InlayError | None = None
    while True:
        standing = await cards.standing(card)
        tries = standing.pin_tries if by == "PIN" else standing.puk_tries
        if not tries:
            raise InlayError("pin_blocked") if by == "PIN" else InlayError("puk_blocked")
        answer = await question(tries_warning(by, tries, wrong))
        try:
            await change(*_both(answer, rules or standing.rules))
        except InlayError as error:
            if error.code not in ("pin_wrong", "puk_wrong"):
                raise
            wrong = error
        else:
            return
        finally:
            answer.wipe()


def _both(answer: Consented, rules: PinRules) -> tuple[bytearray, bytearray]:
    """The window has checked the rules while typing; what breaks them is the window's fault."""
    if answer.known is None or answer.pin is None or not keeps_rules(rules, answer.pin):
        raise WindowFailed(None)
    return answer.known, answer.pin

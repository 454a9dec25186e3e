"""RESET of a PIV card whose PIN and PUK are both blocked: back to what its maker delivered. It is Yubico's command.

``00 FB 00 00``, without any authentication. Cards that have it refuse it until no try is left of either PIN or PUK
(6985, 6982), so it costs a usable card nothing; but some look at the PIN alone. Keys, certificates and all other
objects are gone after it; PIN, PUK and management key are the maker's. SP 800-73 has no such command.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from agent.pcsc import piv_pin, piv_select
from agent.pcsc.apdu import Command
from agent.pcsc.piv_names import PUK
from agent.pcsc.status import CONDITIONS, NOT_AUTHORISED, UNKNOWN, refusal
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.pcsc.connection import CardConnection

_RESET: Final = Command(0xFB, 0, 0, answer=False)
_NOT_BLOCKED: Final = frozenset({CONDITIONS, NOT_AUTHORISED})


class Blocked(enum.Enum):
    """Whether PIN and PUK are both blocked, as far as a card tells without a try."""

    NO = "no"
    PERHAPS = "perhaps"
    """the PIN is, and the card doesn't tell of the PUK"""
    BOTH = "both"


def blocked(card: CardConnection) -> Blocked:
    """Ask a selected card; no try is spent.

    Raises:
        InlayError: ``pcsc_…``, ``card_answer_malformed``.
    """
    if piv_pin.tries_left(card) != 0:
        return Blocked.NO
    tries = piv_pin.tries_left(card, PUK)
    if tries is None:
        return Blocked.PERHAPS
    return Blocked.BOTH if tries == 0 else Blocked.NO


def reset(card: CardConnection) -> bool:
    """Reset a selected card whose PIN is blocked; doing it again is harmless.

    Returns:
        Whether it is reset; False: its PUK isn't blocked, and nothing was changed.

    Raises:
        InlayError: ``card_no_reset``: it has no such command; ``card_refused``; ``pcsc_…``.
    """
    with card.held():
        if piv_pin.tries_left(card) != 0:
            return True  # by a command whose answer never came
        answer = card.send(_RESET)
        if answer.status in UNKNOWN:
            raise InlayError("card_no_reset")
        if answer.status in _NOT_BLOCKED:
            return False
        if not answer.ok:
            raise refusal(_RESET, answer.status)
        piv_select.select(card)  # whatever was selected, this is
    return True

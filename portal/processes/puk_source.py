"""Who has the PUK that a card has now: an option of the processes that need it, and the one refusal of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from portal.errors import FieldErrors
from portal.model.options import Option
from portal.processes import puks

if TYPE_CHECKING:
    from portal.processes.definition import Turn
    from portal.store.tables import Card

PORTAL: Final = "portal"
TYPED: Final = "typed"
NAME: Final = "PUK"
_TITLE: Final = "The PUK that the card has"
_KEPT: Final = "portal: the one that the portal keeps, or the maker's of a card that has no other."


def source(typed: str, note: str = "") -> Option:
    """The option.

    Args:
        typed: what *typed* means.
        note: what stands before.
    """
    text = f"{note} {_KEPT} typed: {typed}".strip()
    return Option(NAME, _TITLE, text, "choice", PORTAL, choices=(PORTAL, TYPED))


def is_typed(turn: Turn) -> bool:
    """Whether the person has it."""
    return turn.values[NAME] == TYPED


async def check(turn: Turn) -> None:
    """See that the portal's PUK is worth telling the card, where it is to be told.

    Raises:
        FieldErrors: the card has refused it: once more would cost another try.
    """
    if not is_typed(turn) and await puks.refused(turn.tx, cast("Card", turn.parties.target)):
        said = "The card has refused the portal's PUK, and each time costs a try. Take typed."
        raise FieldErrors({NAME: said})

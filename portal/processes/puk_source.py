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
_KEPT: Final = (
    "A card that was never given another PUK has its maker's, which the portal knows. "
    "No PUK is ever typed here."
)
_CAPTIONS: Final = {PORTAL: "The portal keeps it", TYPED: "Typed in Inlay's window"}


def source(note: str = "") -> Option:
    """The option; `note` stands before its text."""
    text = f"{note} {_KEPT}".strip()
    return Option(NAME, _TITLE, text, "choice", PORTAL, choices=(PORTAL, TYPED), captions=_CAPTIONS)


def is_typed(turn: Turn) -> bool:
    """Whether the person has it."""
    return turn.values[NAME] == TYPED


async def check(turn: Turn) -> None:
    """See that the portal's PUK is worth telling the card, where it is to be told.

    Raises:
        FieldErrors: the card has refused it: once more would cost another try.
    """
    if not is_typed(turn) and await puks.refused(turn.tx, cast("Card", turn.parties.target)):
        said = "The card has refused the portal's PUK, and each time costs a try. Have it typed."
        raise FieldErrors({NAME: said})

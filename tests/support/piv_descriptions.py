"""The documents' example descriptions of PIV cards, and kinds of cards for a portal's configuration made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from portal import config_cards
from portal.config_cards import CardDescriptionFiles
from portal.encoding.piv_rules import Part
from portal.processes.card_descriptions import BUILT_IN

if TYPE_CHECKING:
    from tests.support.portal_kit import Kit

EXAMPLES: Final = Path(__file__).parents[2] / "docs" / "examples"
FILES: Final = {part: f"piv-{part.value.replace('_', '-')}.dsc" for part in Part}
STAFF: Final = "Staff card"


def example(part: Part) -> str:
    """The text of an example."""
    return (EXAMPLES / FILES[part]).read_text()


def described(
    folder: Path, *, name: str = STAFF, only: tuple[Part, ...] = tuple(Part), **texts: str
) -> dict[str, CardDescriptionFiles]:
    """A kind of card that is made by the examples, or by these texts in place of some."""
    written: dict[str, Any] = {}
    for part in only:
        path = folder / FILES[part]
        path.write_text(texts.get(part.value, example(part)))
        written[part.value] = str(path)
    return {name: CardDescriptionFiles(**written)}


def configure(kit: Kit, folder: Path, *, name: str = BUILT_IN, only: tuple[Part, ...], **texts: str) -> None:
    """An administrator has described PIV cards, and the portal was started anew."""
    files = described(folder, name=name, only=only, **texts)
    found = {each: config_cards.described(each, item) for each, item in files.items()}
    object.__setattr__(kit.portal.context, "descriptions", found)

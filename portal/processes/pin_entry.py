"""Where the holder of a card types its PIN: an option of each kind of card, read once, when a process starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, cast

from portal import option_store
from portal.model import card_options
from portal.model.objects import ObjectKind

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.store.tables import Card, Process

Where = Literal["window", "pad", "auto"]
VARIABLE: Final = "pin_entry"
_OPTIONS: Final = {
    ObjectKind.CARD.value: (card_options.CARDS, card_options.CARDS_PIN_ENTRY),
    ObjectKind.TEMPORARY_CARD.value: (card_options.TEMPORARY_CARDS, card_options.TEMPORARY_CARDS_PIN_ENTRY),
}


async def chosen(tx: AsyncSession, card: Card) -> Where:
    """Where it is typed, by the options as they are now."""
    script, option = _OPTIONS[card.kind]
    return cast(Where, (await option_store.current(tx, script)).values[option])


async def variables(tx: AsyncSession, card: Card) -> dict[str, Where]:
    """The process variable that says where; none for a virtual card, whose PIN no reader asks for."""
    return {VARIABLE: await chosen(tx, card)} if card.kind in _OPTIONS else {}


def of(process: Process) -> Where:
    """Where it is typed, by the options as they were when the process started; of an older one in the window."""
    return cast(Where, process.variables.get(VARIABLE, "window"))

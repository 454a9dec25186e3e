"""Where the holder of a card types its PIN: by its description or an option of its kind, when a process starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, cast

from portal import option_store
from portal.encoding.description import PinWord
from portal.encoding.piv_rules import Part
from portal.model import card_options
from portal.model.objects import ObjectKind
from portal.processes import card_descriptions

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
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


async def variables(
    context: Context, tx: AsyncSession, card: Card, part: Part = Part.VERIFY_PIN
) -> dict[str, Where]:
    """The process variable that says where; none for a virtual card, whose PIN no reader asks for.

    A card's own description of what is done (`part`) comes before the option.
    """
    if card.kind not in _OPTIONS:
        return {}
    return {VARIABLE: described(context, card, part) or await chosen(tx, card)}


def described(context: Context, card: Card, part: Part) -> Where | None:
    """Where it is typed, by the card's own description; None where it has none for what is done."""
    setting = card_descriptions.pin_word(context, card, part)
    if setting is None or not isinstance(setting.value, PinWord):
        return None
    source = setting.value.source
    return source if source in ("pad", "auto") else "window"


def of(process: Process) -> Where:
    """Where it is typed, by the options as they were when the process started; of an older one in the window."""
    return cast(Where, process.variables.get(VARIABLE, "window"))

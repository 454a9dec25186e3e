"""``TempCardsBoProcIssueMultiple``: an operator orders several temporary cards at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from portal.encoding.piv_rules import Part
from portal.model.options import Form, Option
from portal.model.states import Role
from portal.processes import card_batches, card_descriptions
from portal.processes.card_descriptions import BUILT_IN, CHOICE
from portal.processes.definition import Definition, Step, finish

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portal.processes.context import Context
    from portal.processes.definition import Turn
    from portal.store.tables import Order, Process

_LABEL: Final = Option(
    "Label",
    "Name of the cards",
    "What staff call them; a number comes behind it: “Visitor” becomes “Visitor 1”, “Visitor 2” and so on.",
    "text",
    "",
    low=1,
    high=90,
)
_COUNT: Final = Option(
    "Count", "How many", "Blank cards that you have.", "int", 10, low=1, high=card_batches.MOST, unit="cards"
)
_FIRST: Final = Option(
    "First", "Number of the first card", "Where the numbers begin.", "int", 1, low=1, high=999_000
)


class IssueMultipleTemporaryCards(Definition):
    """Makes the batch and its card objects, Requested; they are produced from the batch's own page."""

    name = "TempCardsBoProcIssueMultiple"
    title = "Issue multiple temporary cards"
    description = (
        "Orders a batch of cards that people get for a while, and produces them one after the other."
    )
    role = Role.OPERATOR

    def __init__(self, context: Context) -> None:
        self._context = context
        kinds = [  # no card that PKCS#11 makes is made ready before it has a holder
            name
            for name, item in context.descriptions.items()
            if item.driver == "piv" and item.makes(Part.ENCODE)
        ]
        form = Form((_LABEL, _COUNT, _FIRST, *card_descriptions.option(kinds)))
        self.steps = (Step("order", "Order", form), Step("done", "Done", settled=True))

    async def advance(self, turn: Turn) -> None:
        """Order it."""
        chosen = cast(str, turn.values.get(CHOICE, BUILT_IN))
        batch = await card_batches.order(
            turn.tx,
            turn.parties.user,
            cast(str, turn.values[_LABEL.name]),
            cast(int, turn.values[_FIRST.name]),
            cast(int, turn.values[_COUNT.name]),
            self._context.clock(),
            lambda card: card_descriptions.assign(self._context, card, chosen),
        )
        turn.process.variables[card_batches.BATCH] = batch.id
        finish(turn, "done")

    def facts(self, process: Process) -> Mapping[str, str]:
        """What was ordered, once it is."""
        known = process.variables
        if card_batches.BATCH not in known:
            return {}
        kind = {"Kind of card": cast(str, known[CHOICE])} if CHOICE in known else {}
        return {"Ordered": f"{known['Count']} cards", **kind}

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing was done before the only *Next*."""
        return "Nothing was ordered."

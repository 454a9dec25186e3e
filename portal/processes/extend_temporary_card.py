"""``TempCardsProcExtend``: an operator extends a temporary card that is assigned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from portal.errors import EncodingMissing
from portal.model.card_options import TEMPORARY_CARDS
from portal.model.graphs import Why
from portal.model.states import Role, TemporaryCardState
from portal.processes import temporary_cards
from portal.processes.days import date_text
from portal.processes.definition import Definition, Step, finish
from portal.store.transitions import StateChange, change_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process


class ExtendTemporaryCard(Definition):
    """Without encoding: *Next* extends and finishes; keys and certificates stay as they are."""

    name = "TempCardsProcExtend"
    title = "Extend temporary card"
    description = "Lets the person keep the card for longer."
    role = Role.OPERATOR
    target = temporary_cards.in_states((TemporaryCardState.ASSIGNED,))
    steps = (Step("information", "Information"), Step("done", "Done", settled=True))

    def __init__(self, context: Context) -> None:
        self._context = context

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """With encoding it can't be done yet: nothing is extended that would look as if it had new certificates."""
        if (await temporary_cards.options(tx)).encodes:
            raise EncodingMissing(TEMPORARY_CARDS, "TempCardsEncode")

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, until when it is valid now, and by how much it is extended."""
        known = await temporary_cards.described(tx, parties)
        until = temporary_cards.card_of(parties).valid_until
        return {**known, "valid_until": until, "validity": (await temporary_cards.options(tx)).validity}

    async def advance(self, turn: Turn) -> None:
        """Valid from now on for as long as the option said; never for less than it was."""
        now, card = self._context.clock(), temporary_cards.card_of(turn.parties)
        card.valid_until = max(card.valid_until, now + cast(int, turn.process.variables["validity"]))
        turn.process.variables["extended_until"] = card.valid_until
        change = StateChange(turn.parties.user.email, now, Why.EXTENDED)
        await change_state(turn.tx, card, TemporaryCardState.ASSIGNED, change, valid_until=card.valid_until)
        finish(turn, "done")

    def facts(self, process: Process) -> Mapping[str, str]:
        """Until when it was valid, and is."""
        days = cast(int, process.variables["validity"]) // temporary_cards.DAY
        found = {
            "Valid until": date_text(cast(int, process.variables["valid_until"])),
            "Extended to": f"{days} days from now",
        }
        if (until := process.variables.get("extended_until")) is not None:
            found["Extended to"] = date_text(cast(int, until))
        return found

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing was done before the only *Next*."""
        return "Nothing was done yet. The card stays as it is."

"""``TempCardsProcIssue``: an operator says that a temporary card is ready to be given out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portal.ca.authority import Reason
from portal.model.graphs import Why
from portal.model.states import Role, TemporaryCardState
from portal.processes import temporary_cards
from portal.processes.definition import Definition, Step, finish
from portal.store.transitions import StateChange, change_state

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process


class IssueTemporaryCard(Definition):
    """Requested or Failed to Unassigned: the card is in hand, and nobody's yet."""

    name = "TempCardsProcIssue"
    title = "Issue"
    description = "Says that the card is in hand and can be given to people."
    role = Role.OPERATOR
    target = temporary_cards.in_states((TemporaryCardState.REQUESTED, TemporaryCardState.FAILED))
    steps = (Step("information", "Information"), Step("done", "Done", settled=True))

    def __init__(self, context: Context) -> None:
        self._context = context

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card."""
        return await temporary_cards.described(tx, parties)

    async def advance(self, turn: Turn) -> None:
        """It is Unassigned, and with who has it in hand; a half-done card is nobody's any more."""
        change = StateChange(turn.parties.user.email, self._context.clock(), Why.PRODUCED)
        card = temporary_cards.card_of(turn.parties)
        await change_state(turn.tx, card, TemporaryCardState.UNASSIGNED, change)
        actor = turn.parties.user
        await temporary_cards.end_certificates(
            turn.tx, card, Reason.CESSATION_OF_OPERATION, actor.email, self._context.clock()
        )
        card.owner_id = actor.id
        finish(turn, "done")

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing was done before the only *Next*."""
        return "Nothing was done yet. The card stays as it is."

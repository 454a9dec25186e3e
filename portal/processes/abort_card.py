"""``CardsProcAbort``: an operator gives up a card that was approved and isn't issued."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from portal.ca.authority import Reason
from portal.model.graphs import Why
from portal.model.states import CardState, Role
from portal.processes import card_letters, card_orders, cards, temporary_cards
from portal.processes.definition import Definition, Step, finish
from portal.store.transitions import StateChange, change_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process


class AbortCard(Definition):
    """Approved or Failed to Aborted, for good; whatever was certified for it is revoked."""

    name = "CardsProcAbort"
    title = "Abort"
    description = "Gives this card up before it is issued, for good."
    role = Role.OPERATOR
    target = cards.in_states((CardState.APPROVED, CardState.FAILED))
    steps = (
        Step("reason", "Reason", temporary_cards.REASON_FORM),
        Step("done", "Done", settled=True),
    )

    def __init__(self, context: Context) -> None:
        self._context = context

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, and the certificates that will be revoked."""
        return await temporary_cards.described(tx, parties)

    async def advance(self, turn: Turn) -> None:
        """It is Aborted.

        Raises:
            WrongState: it is being encoded.
        """
        card, actor, now = temporary_cards.card_of(turn.parties), turn.parties.user, self._context.clock()
        await card_orders.refuse_while_ordered(turn.tx, card)
        note = cast(str, turn.values[temporary_cards.REASON.name])
        change = StateChange(actor.email, now, Why.ABORTED, note)
        await change_state(turn.tx, card, CardState.ABORTED, change)
        await temporary_cards.end_certificates(turn.tx, card, Reason.CESSATION_OF_OPERATION, actor.email, now)
        await card_letters.end(self._context, turn.tx, card.id)
        finish(turn, "done")

    def facts(self, process: Process) -> Mapping[str, str]:
        """What will be revoked, and why."""
        return temporary_cards.facts(process)

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing was done before the only *Next*."""
        return "Nothing was done yet. The card stays as it is."

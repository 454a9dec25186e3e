"""``CardsProcDeactivate``: an operator puts a card out of use for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from portal.model.graphs import Why
from portal.model.states import CardState, Role
from portal.processes import cards, temporary_cards
from portal.processes.definition import Definition, Step, finish
from portal.store import objects
from portal.store.transitions import StateChange, change_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process


class DeactivateCard(Definition):
    """Active to Inactive; the CA puts its certificates on hold."""

    name = "CardsProcDeactivate"
    title = "Deactivate"
    description = "Puts the card and its certificates on hold until it is reactivated."
    role = Role.OPERATOR
    target = cards.in_states((CardState.ACTIVE,))
    steps = (
        Step("reason", "Reason", temporary_cards.REASON_FORM),
        Step("done", "Done", settled=True),
    )

    def __init__(self, context: Context) -> None:
        self._context = context

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card."""
        return {"card": objects.describe(temporary_cards.card_of(parties))}

    async def advance(self, turn: Turn) -> None:
        """Card, the CA's queue and audit log change together."""
        card, actor, now = (
            temporary_cards.card_of(turn.parties),
            turn.parties.user.email,
            self._context.clock(),
        )
        note = cast(str, turn.values[temporary_cards.REASON.name])
        change = StateChange(actor, now, Why.DEACTIVATED, note)
        await change_state(turn.tx, card, CardState.INACTIVE, change, holder=turn.parties.subject.email)
        await cards.hold(turn.tx, card, actor, now)
        finish(turn, "done")

    def facts(self, process: Process) -> Mapping[str, str]:
        """Why."""
        reason = process.variables.get(temporary_cards.REASON.name)
        return {} if reason is None else {"Reason": cast(str, reason)}

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing was done before the only *Next*."""
        return "Nothing was done yet. The card stays as it is."

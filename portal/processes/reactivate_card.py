"""``CardsProcReactivate``: an operator puts a card that was deactivated into use again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from portal.model.graphs import Why
from portal.model.states import CardState, Role, UserState
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


class ReactivateCard(Definition):
    """Inactive to Active; the CA takes its certificates off hold."""

    name = "CardsProcReactivate"
    title = "Reactivate"
    description = "Makes the card and its certificates valid again."
    role = Role.OPERATOR
    subject_states: ClassVar[frozenset[UserState]] = frozenset({UserState.ACTIVE})
    target = cards.in_states((CardState.INACTIVE,))
    steps = (
        Step("reason", "Reason", temporary_cards.REASON_FORM),
        Step("done", "Done", settled=True),
    )

    def __init__(self, context: Context) -> None:
        self._context = context

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """One active card at a time, where the option says so.

        Raises:
            InlayError: ``card_other_active``.
        """
        await cards.check_only_active(tx, temporary_cards.card_of(parties))

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
        change = StateChange(actor, now, Why.REACTIVATED, note)
        await change_state(turn.tx, card, CardState.ACTIVE, change, holder=turn.parties.subject.email)
        await cards.release(turn.tx, card, actor, now)
        finish(turn, "done")

    def facts(self, process: Process) -> Mapping[str, str]:
        """Why."""
        reason = process.variables.get(temporary_cards.REASON.name)
        return {} if reason is None else {"Reason": cast(str, reason)}

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing was done before the only *Next*."""
        return "Nothing was done yet. The card stays as it is."

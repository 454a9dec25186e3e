"""``TempCardsProcWithdraw``: an operator takes a temporary card back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from portal.ca.authority import Reason
from portal.model.graphs import Why
from portal.model.states import Role, TemporaryCardState
from portal.processes import expiry_mails, temporary_cards
from portal.processes.definition import Definition, Step, finish
from portal.store.transitions import StateChange, change_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process


class WithdrawTemporaryCard(Definition):
    """Assigned or Expired to Unassigned: nobody's again, and its certificates are revoked."""

    name = "TempCardsProcWithdraw"
    title = "Withdraw"
    description = "Takes the card back; its certificates are revoked."
    role = Role.OPERATOR
    target = temporary_cards.in_states((TemporaryCardState.ASSIGNED, TemporaryCardState.EXPIRED))
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
        """Card, revocation queue and audit log change together."""
        actor, now = turn.parties.user, self._context.clock()
        card, note = (
            temporary_cards.card_of(turn.parties),
            cast(str, turn.values[temporary_cards.REASON.name]),
        )
        change = StateChange(actor.email, now, Why.WITHDRAWN, note)
        await change_state(
            turn.tx, card, TemporaryCardState.UNASSIGNED, change, holder=turn.parties.subject.email
        )
        await temporary_cards.end_certificates(turn.tx, card, Reason.CESSATION_OF_OPERATION, actor.email, now)
        await expiry_mails.forget(self._context, turn.tx, card.id)
        card.owner_id = actor.id  # who has it in hand now
        card.valid_until = min(card.valid_until, now)
        finish(turn, "done")

    def facts(self, process: Process) -> Mapping[str, str]:
        """What will be revoked, and why."""
        return temporary_cards.facts(process)

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing was done before the only *Next*."""
        return "Nothing was done yet. The card stays as it is."

"""``TempCardsProcWithdraw``: an operator takes a temporary card back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.ca.authority import Reason
from portal.model.graphs import Why
from portal.model.states import TemporaryCardState
from portal.processes import expiry_mails, temporary_cards
from portal.processes.state_process import StateProcess

if TYPE_CHECKING:
    from portal.processes.definition import Turn
    from portal.store.tables import Card


class WithdrawTemporaryCard(StateProcess):
    """Assigned or Expired to Unassigned: nobody's again, and its certificates are revoked."""

    name = "TempCardsProcWithdraw"
    title = "Withdraw"
    description = "Takes the card back; its certificates are revoked."
    target = temporary_cards.in_states((TemporaryCardState.ASSIGNED, TemporaryCardState.EXPIRED))
    to = TemporaryCardState.UNASSIGNED
    why = Why.WITHDRAWN

    async def follow(self, turn: Turn, card: Card, now: int) -> None:
        """Revocations, and no mail of its end; it isn't its holder's any more."""
        actor = turn.parties.user
        await temporary_cards.end_certificates(turn.tx, card, Reason.CESSATION_OF_OPERATION, actor.email, now)
        await expiry_mails.forget(self._context, turn.tx, card.id)
        card.owner_id = actor.id  # who has it in hand now
        card.valid_until = min(card.valid_until, now)

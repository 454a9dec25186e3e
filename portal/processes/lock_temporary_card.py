"""``TempCardsProcLock``: an operator locks a temporary card for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.ca.authority import Reason
from portal.model import states
from portal.model.graphs import Why
from portal.model.states import TemporaryCardState
from portal.processes import expiry_mails, temporary_cards
from portal.processes.state_process import StateProcess

if TYPE_CHECKING:
    from portal.processes.definition import Turn
    from portal.store.tables import Card


class LockTemporaryCard(StateProcess):
    """Locked for good, and its certificates are revoked, reason unspecified."""

    name = "TempCardsProcLock"
    title = "Lock"
    description = "Locks the card for good and has all its certificates revoked."
    target = temporary_cards.in_states(states.TEMPORARY_CARD.before(TemporaryCardState.LOCKED))
    to = TemporaryCardState.LOCKED
    why = Why.LOCKED

    async def follow(self, turn: Turn, card: Card, now: int) -> None:
        """Revocations, and no mail of its end."""
        actor = turn.parties.user.email
        await temporary_cards.end_certificates(turn.tx, card, Reason.UNSPECIFIED, actor, now)
        await expiry_mails.forget(self._context, turn.tx, card.id)

"""``CardsProcDeactivate``: an operator puts a card out of use for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.model.graphs import Why
from portal.model.states import CardState
from portal.processes import cards
from portal.processes.state_process import StateProcess

if TYPE_CHECKING:
    from portal.processes.definition import Turn
    from portal.store.tables import Card


class DeactivateCard(StateProcess):
    """Active to Inactive; the CA puts its certificates on hold."""

    name = "CardsProcDeactivate"
    title = "Deactivate"
    description = "Puts the card and its certificates on hold until it is reactivated."
    target = cards.in_states((CardState.ACTIVE,))
    to = CardState.INACTIVE
    why = Why.DEACTIVATED
    ends_certificates = False

    async def follow(self, turn: Turn, card: Card, now: int) -> None:
        """The CA holds them."""
        await cards.hold(turn.tx, card, turn.parties.user.email, now)

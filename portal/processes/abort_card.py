"""``CardsProcAbort``: an operator gives up a card that was approved and isn't issued."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.ca.authority import Reason
from portal.model.graphs import Why
from portal.model.states import CardState
from portal.processes import card_letters, card_orders, cards, temporary_cards
from portal.processes.state_process import StateProcess

if TYPE_CHECKING:
    from portal.processes.definition import Turn
    from portal.store.tables import Card


class AbortCard(StateProcess):
    """Approved or Failed to Aborted, for good; whatever was certified for it is revoked."""

    name = "CardsProcAbort"
    title = "Abort"
    description = "Gives this card up before it is issued, for good."
    target = cards.in_states((CardState.APPROVED, CardState.FAILED))
    to = CardState.ABORTED
    why = Why.ABORTED

    async def follow(self, turn: Turn, card: Card, now: int) -> None:
        """Revocations, and nothing tells its PIN any more.

        Raises:
            WrongState: it is being encoded.
        """
        await card_orders.refuse_while_ordered(turn.tx, card)
        actor = turn.parties.user.email
        await temporary_cards.end_certificates(turn.tx, card, Reason.CESSATION_OF_OPERATION, actor, now)
        await card_letters.end(self._context, turn.tx, card.id)

"""``CardsProcLock``: an operator locks a card for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.model import states
from portal.model.states import CardState
from portal.processes import card_letters, cards
from portal.processes.lock_for_operator import LockForOperator

if TYPE_CHECKING:
    from portal.processes.definition import Turn
    from portal.store.tables import Card


class LockCard(LockForOperator):
    """Locked as a virtual smart card is; its letters are not printed any more."""

    name = "CardsProcLock"
    target = cards.in_states(states.CARD.before(CardState.LOCKED))
    to = CardState.LOCKED

    async def follow(self, turn: Turn, card: Card, now: int) -> None:
        """Ask for the revocations, and forget what its letters would say."""
        await super().follow(turn, card, now)
        await card_letters.end(self._context, turn.tx, card.id)

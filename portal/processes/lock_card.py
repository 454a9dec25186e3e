"""``CardsProcLock``: an operator locks a card for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.model import states
from portal.model.states import CardState
from portal.processes import card_letters, cards, temporary_cards
from portal.processes.lock_for_operator import LockForOperator

if TYPE_CHECKING:
    from portal.processes.definition import Turn


class LockCard(LockForOperator):
    """Locked as a virtual smart card is; its letters are not printed any more."""

    name = "CardsProcLock"
    target = cards.in_states(states.CARD.before(CardState.LOCKED))

    async def advance(self, turn: Turn) -> None:
        """Lock, ask for the revocations, and forget what its letters would say."""
        await super().advance(turn)
        await card_letters.end(self._context, turn.tx, temporary_cards.card_of(turn.parties).id)

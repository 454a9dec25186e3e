"""``CardsProcReactivate``: an operator puts a card that was deactivated into use again."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from portal.model.graphs import Why
from portal.model.states import CardState, UserState
from portal.processes import cards, temporary_cards
from portal.processes.state_process import StateProcess

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Card


class ReactivateCard(StateProcess):
    """Inactive to Active; the CA takes its certificates off hold."""

    name = "CardsProcReactivate"
    title = "Reactivate"
    description = "Makes the card and its certificates valid again."
    subject_states: ClassVar[frozenset[UserState]] = frozenset({UserState.ACTIVE})
    target = cards.in_states((CardState.INACTIVE,))
    to = CardState.ACTIVE
    why = Why.REACTIVATED
    ends_certificates = False

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """One active card at a time, where the option says so.

        Raises:
            InlayError: ``card_other_active``.
        """
        await cards.check_only_active(tx, temporary_cards.card_of(parties))

    async def follow(self, turn: Turn, card: Card, now: int) -> None:
        """The CA releases them."""
        await cards.release(turn.tx, card, turn.parties.user.email, now)

"""What the processes have in common by which an operator changes a card's state with one *Next*, and says why."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, cast

from portal.model.states import Role
from portal.processes import temporary_cards
from portal.processes.definition import Definition, Step, finish
from portal.store import objects
from portal.store.transitions import StateChange, change_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.model.graphs import Why
    from portal.model.states import CardState, TemporaryCardState, VirtualSmartCardState
    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Card, Order, Process


class StateProcess(Definition):
    """Card, what follows from its new state and audit log change together.

    Attributes:
        to: the card's new state.
        why: what its history says.
        ends_certificates: the certificates are revoked, so they are counted before.
    """

    role = Role.OPERATOR
    steps = (
        Step("reason", "Reason", temporary_cards.REASON_FORM),
        Step("done", "Done", settled=True),
    )
    to: CardState | TemporaryCardState | VirtualSmartCardState
    why: Why
    ends_certificates = True

    def __init__(self, context: Context) -> None:
        self._context = context

    @abc.abstractmethod
    async def follow(self, turn: Turn, card: Card, now: int) -> None:
        """What follows from it, in the same transaction.

        Raises:
            WrongState: it can't be done now, and isn't.
        """

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, and the certificates that will be revoked."""
        if self.ends_certificates:
            return await temporary_cards.described(tx, parties)
        return {"card": objects.describe(temporary_cards.card_of(parties))}

    async def advance(self, turn: Turn) -> None:
        """Change it."""
        card, now = temporary_cards.card_of(turn.parties), self._context.clock()
        note = cast(str, turn.values[temporary_cards.REASON.name])
        change = StateChange(turn.parties.user.email, now, self.why, note)
        await change_state(turn.tx, card, self.to, change, holder=turn.parties.subject.email)
        await self.follow(turn, card, now)
        finish(turn, "done")

    def facts(self, process: Process) -> Mapping[str, str]:
        """What will be revoked, and why."""
        return temporary_cards.facts(process)

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing was done before the only *Next*."""
        return "Nothing was done yet. The card stays as it is."

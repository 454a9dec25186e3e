"""What the processes have in common whose work is one order about a card that is there."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, Final, cast

from portal.errors import WrongState
from portal.model.objects import CoreObject
from portal.model.states import OrderState
from portal.processes import card_orders, card_proof
from portal.processes.definition import OPEN, Definition, Step, finish
from portal.processes.endings import DETAILS
from portal.store import objects
from portal.store.tables import Card

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Process
    from protocol.messages import Operation

RESUME_WITHIN: Final = 3600


class CardProcess(Definition):
    """At its first step the order is made; from *open* on it moves the process itself."""

    steps = (
        Step("information", "Information"),
        Step(OPEN, "Open Inlay"),
        Step(DETAILS, "Details", settled=True),
        Step("done", "Done", settled=True),
    )

    def __init__(self, context: Context) -> None:
        self._context = context

    @abc.abstractmethod
    def wanted(self, turn: Turn, card: Card) -> Operation:
        """What is ordered of the card."""

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """A card in a reader has to have been encoded for its holder: before, it has no PIN of theirs.

        Raises:
            InlayError: ``card_not_encoded``.
        """
        await card_orders.check_usable(tx, cast(Card, parties.target))

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, and the account of who acts."""
        return {
            "card": objects.describe(cast(Card, parties.target)),
            "user_id": parties.user.email,
            "resume_within": RESUME_WITHIN,
        }

    async def advance(self, turn: Turn) -> None:
        """Make the order, or end."""
        step = turn.process.step
        if step == self.steps[0].name:
            card = cast(Card, turn.parties.target)
            operation = await card_proof.asked_for(turn.tx, card, self.wanted(turn, card))
            await card_orders.order(self._context, turn, operation)
        elif step == DETAILS:
            finish(turn, "done")
        else:
            state = turn.order.state if turn.order else "missing"
            raise WrongState("order", state, (OrderState.FINISHED.value,))

    def facts(self, process: Process) -> Mapping[str, str]:
        """Which card."""
        return {"Card": cast(CoreObject, process.variables["card"]).label}

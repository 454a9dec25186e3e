"""``CardsSelfServiceProcVerifyPIN``: whoever has a card sees whether the PIN that they know is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from portal.model.objects import ObjectKind
from portal.model.states import CardState, Role, TemporaryCardState
from portal.processes import card_orders, pin_entry
from portal.processes.card_process import CardProcess
from portal.processes.definition import BINDING, Target
from portal.processes.endings import DETAILS
from portal.store.tables import Card
from protocol.messages import Step as OrderStep
from protocol.messages import VerifyPin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process


class VerifyCardPin(CardProcess):
    """Orders *check pin* of a card in a reader."""

    name = "CardsSelfServiceProcVerifyPIN"
    title = "Check PIN"
    description = (
        "Shows whether the PIN that you know is this card's. Nothing is changed; a wrong one costs a try."
    )
    role = Role.SELF_SERVICE
    target = Target(
        frozenset({ObjectKind.CARD, ObjectKind.TEMPORARY_CARD}),
        frozenset({CardState.ACTIVE.value, TemporaryCardState.ASSIGNED.value}),
        own=True,
    )
    progress = {  # noqa: RUF012  # read only
        OrderStep.CONSENT: ("Consent", "Inlay's window says what will happen."),
        OrderStep.BINDING: BINDING,
        OrderStep.CARD: ("Card", "Put the card in the reader, and type its PIN where Inlay's window says."),
        OrderStep.FINISHED: ("Done", "The PIN is right."),
    }

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, the account, and where PINs are typed."""
        where = await pin_entry.variables(self._context, tx, cast(Card, parties.target))
        return {**await super().variables(tx, parties), **where}

    def wanted(self, turn: Turn, card: Card) -> VerifyPin:
        """The order."""
        return VerifyPin(**card_orders.named(card), where=pin_entry.of(turn.process))

    def facts(self, process: Process) -> Mapping[str, str]:
        """Which card, and what became of it."""
        found = dict(super().facts(process))
        if process.step in (DETAILS, "done"):
            found["Result"] = "The PIN is right."
        return found

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """What *Cancel* leaves."""
        return "This process is closed. The card is as it was."

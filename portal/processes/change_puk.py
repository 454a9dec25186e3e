"""``CardsProcChangePUK``: an operator gives a card in a reader another PUK, which the portal keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from portal.model.objects import ObjectKind
from portal.model.options import Form
from portal.model.states import CardState, OrderState, ProcessState, Role, TemporaryCardState
from portal.processes import card_orders, puk_source
from portal.processes.card_process import CardProcess
from portal.processes.definition import BINDING, Step, Target
from portal.processes.endings import DETAILS
from portal.processes.operations.change_puk import REPLACED
from protocol.messages import ChangePuk
from protocol.messages import Step as OrderStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portal.processes.definition import Turn
    from portal.store.tables import Card, Order, Process

SOURCE: Final = puk_source.source()
_SAYS: Final = {
    puk_source.PORTAL: "the portal tells it the card",
    puk_source.TYPED: "who has it types it in Inlay's window",
}


class ChangeCardPuk(CardProcess):
    """Orders *change puk* of a card in a reader."""

    name = "CardsProcChangePUK"
    title = "Change PUK"
    description = (
        "Gives this card another PUK, which the portal keeps. One that was written down is good no more."
    )
    role = Role.OPERATOR
    target = Target(
        frozenset({ObjectKind.CARD, ObjectKind.TEMPORARY_CARD}),
        frozenset({CardState.ACTIVE.value, CardState.INACTIVE.value, TemporaryCardState.ASSIGNED.value}),
    )
    steps = (Step("information", "Information", Form((SOURCE,))), *CardProcess.steps[1:])
    progress = {  # noqa: RUF012  # read only
        OrderStep.CONSENT: ("Consent", "Inlay's window says what will happen."),
        OrderStep.BINDING: BINDING,
        OrderStep.CARD: (
            "Card",
            "Put the card in the reader of this computer. Inlay's window asks for its PUK if you chose so.",
        ),
        OrderStep.FINISHED: ("Done", "The portal has the card's PUK."),
    }

    def wanted(self, turn: Turn, card: Card) -> ChangePuk:
        """The order."""
        return ChangePuk(**card_orders.named(card), puk="typed" if puk_source.is_typed(turn) else "escrow")

    async def advance(self, turn: Turn) -> None:
        """Make the order, or end.

        Raises:
            FieldErrors: the card has refused the portal's PUK: once more would cost another try.
        """
        if turn.process.step == self.steps[0].name:
            await puk_source.check(turn)
        await super().advance(turn)

    def facts(self, process: Process) -> Mapping[str, str]:
        """Which card, and what became of it."""
        found = dict(super().facts(process))
        if (source := process.variables.get(SOURCE.name)) is not None:
            found["PUK of before"] = _SAYS[cast(str, source)]
        if (replaced := process.variables.get(REPLACED)) is not None:
            found["PUK"] = "another one, kept here" if replaced else "as it was: the card takes no other one"
        return found

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """What *Cancel* leaves."""
        if process.state != ProcessState.RUNNING or process.step == DETAILS:
            return "This process is closed. The card keeps its PUK."
        if order is None or order.state == OrderState.WAITING:
            return "Nothing was changed. The card is as it was."
        return (
            "If the card was just being changed, nobody knows which PUK it has. The portal keeps both, "
            "and finds out when you start again."
        )

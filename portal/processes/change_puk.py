"""``CardsProcChangePUK``: an operator gives a card in a reader another PUK, which the portal keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.model.objects import ObjectKind
from portal.model.states import CardState, OrderState, ProcessState, Role, TemporaryCardState
from portal.processes import card_orders, temporary_cards
from portal.processes.card_process import CardProcess
from portal.processes.definition import Target
from portal.processes.endings import DETAILS
from portal.processes.operations.change_puk import REPLACED
from protocol.messages import ChangePuk
from protocol.messages import Step as OrderStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Card, Order, Process


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
    progress = {  # noqa: RUF012  # read only
        OrderStep.CONSENT: ("Consent", "Inlay's window says what will happen."),
        OrderStep.BINDING: ("This browser", "It is made sure that this page and Inlay belong together."),
        OrderStep.CARD: ("Card", "Put the card in the reader of this computer."),
        OrderStep.FINISHED: ("Done", "The portal has the card's PUK."),
    }

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """It has been encoded, and its driver can do it.

        Raises:
            InlayError: ``card_not_encoded``, ``card_pkcs11_cannot``.
        """
        await super().check(tx, parties)
        card_orders.named(temporary_cards.card_of(parties), ChangePuk)

    def wanted(self, turn: Turn, card: Card) -> ChangePuk:
        """The order."""
        return ChangePuk(**card_orders.named(card, ChangePuk))

    def facts(self, process: Process) -> Mapping[str, str]:
        """Which card, and what became of it."""
        found = dict(super().facts(process))
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

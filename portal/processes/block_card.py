"""``CardsProcBlock``: an operator makes PIN and PUK of a Locked card unusable on the card itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.model.objects import ObjectKind
from portal.model.states import CardState, OrderState, ProcessState, Role, TemporaryCardState
from portal.processes import card_orders, card_serials, temporary_cards
from portal.processes.card_process import CardProcess
from portal.processes.definition import BINDING, Target
from portal.processes.endings import DETAILS
from portal.store.tables import ManagedCard
from protocol.errors import InlayError
from protocol.messages import BlockCard
from protocol.messages import Step as OrderStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Card, Order, Process


class BlockCardInReader(CardProcess):
    """Orders *block card* of a card in a reader."""

    name = "CardsProcBlock"
    title = "Block card"
    description = (
        "Makes PIN and PUK of this card unusable on the card itself. Nothing undoes that: a card that can be erased "
        "may be entered again and encoded anew, any other one is of no use any more. "
        "The PUK of a card through PKCS#11 stays: without it nobody could erase the card."
    )
    role = Role.OPERATOR
    target = Target(
        frozenset({ObjectKind.CARD, ObjectKind.TEMPORARY_CARD}),
        frozenset({CardState.LOCKED.value, TemporaryCardState.LOCKED.value}),
    )
    progress = {  # noqa: RUF012  # read only
        OrderStep.CONSENT: ("Consent", "Inlay's window says what will happen."),
        OrderStep.BINDING: BINDING,
        OrderStep.CARD: ("Card", "Put the card in the reader of this computer."),
        OrderStep.FINISHED: ("Done", "The card takes no PIN any more."),
    }

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """A card that was never encoded has nothing on it by which it could be told from another.

        A token has nothing but its serial number for that: where it is another card by now, it stays as it is.

        Raises:
            InlayError: ``card_not_encoded``, ``card_serial_elsewhere``.
        """
        card = temporary_cards.card_of(parties)
        if await tx.get(ManagedCard, card.id) is None:
            raise InlayError("card_not_encoded")
        if card.driver == "pkcs11":
            other = await card_serials.taken_by(tx, card.serial, card.driver, but=card.id)
            if other is not None:
                raise InlayError("card_serial_elsewhere", label=other)

    def wanted(self, turn: Turn, card: Card) -> BlockCard:
        """The order."""
        return BlockCard(**card_orders.named(card))

    def facts(self, process: Process) -> Mapping[str, str]:
        """Which card, and what became of it."""
        found = dict(super().facts(process))
        if process.step in (DETAILS, "done"):
            found["Result"] = "The card takes no PIN any more."
        return found

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """What *Cancel* leaves."""
        if process.state != ProcessState.RUNNING or process.step == DETAILS:
            return "This process is closed. The card stays blocked."
        if order is None or order.state == OrderState.WAITING:
            return "Nothing was changed. The card is as it was."
        return "Some tries of the card may be spent. Start again to block it."

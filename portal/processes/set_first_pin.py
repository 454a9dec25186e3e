"""``CardsSelfServiceProcSetPIN``: whoever has got a card and not its PIN chooses one before it is activated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from portal.errors import WrongState
from portal.model.states import CardState, OrderState, Role
from portal.processes import activation, card_orders, cards, temporary_cards
from portal.processes.definition import OPEN, Step, finish
from portal.processes.extend_temporary_card import PIN_POLICY
from portal.processes.unblock_change_pin import UnblockChangePin
from protocol.errors import InlayError
from protocol.messages import UnblockPin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.model.objects import CoreObject
    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Process


class SetFirstPin(UnblockChangePin):
    """Orders *unblock PIN* of a card that is Issued; by the PUK that a letter has told, where one has."""

    name = "CardsSelfServiceProcSetPIN"
    title = "Set PIN"
    description = "Lets you choose the PIN of a card that you got without one, before you activate it."
    role = Role.SELF_SERVICE
    target = cards.in_states((CardState.ISSUED,), own=True)
    steps = (Step("information", "Information"), *UnblockChangePin.steps[1:])

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._context = context

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """A card whose PIN was told, and whose PUK wasn't, is activated by that PIN and no other way.

        Raises:
            InlayError: ``card_not_encoded``, ``card_pin_told``.
        """
        await super().check(tx, parties)
        told = await activation.told(tx, temporary_cards.card_of(parties))
        if told.pin and not told.puk:
            raise InlayError("card_pin_told")

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, the account, and who has the PUK."""
        told = await activation.told(tx, temporary_cards.card_of(parties))
        return {**await super().variables(tx, parties), "puk": "typed" if told.puk else "escrow"}

    async def advance(self, turn: Turn) -> None:
        """Make the order; from *open* it moves the process itself."""
        match turn.process.step:
            case "information":
                card = temporary_cards.card_of(turn.parties)
                wanted = UnblockPin(
                    card=card.id,
                    driver="piv",
                    guid=card.guid,
                    label=card.label,
                    pin_policy=PIN_POLICY,
                    puk=turn.process.variables["puk"],
                )
                await card_orders.order(self._context, turn, wanted)
            case "details":
                finish(turn, "done")
            case _:
                state = turn.order.state if turn.order else "missing"
                raise WrongState("order", state, (OrderState.FINISHED.value,))

    def facts(self, process: Process) -> Mapping[str, str]:
        """Which card, by what, and what comes then."""
        known = process.variables
        typed = known["puk"] == "typed"
        by = "the one in your PUK letter; Inlay asks for it" if typed else "the portal tells it the card"
        label = cast("CoreObject", known["card"]).label
        if process.step in (self.steps[0].name, OPEN):
            return {"Card": label, "PUK": by}
        return {"Card": label, "Result": "The card has the PIN that you chose. Activate it now."}

"""``VirtualSmartCardProcChangePin``: the person chooses a new PIN for a card of theirs, in Inlay's window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from portal.errors import WrongState
from portal.model.objects import CoreObject, ObjectKind
from portal.model.states import OrderState, ProcessState, Role, VirtualSmartCardState
from portal.processes import card_orders
from portal.processes.definition import BINDING, OPEN, Definition, Step, Target, finish
from portal.processes.endings import DETAILS
from portal.store.tables import Card
from protocol.messages import ChangePin
from protocol.messages import Step as OrderStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process


class ChangeCardPin(Definition):
    """Orders *change PIN*. PIN and new PIN never come here: they go from Inlay's window to the card."""

    name = "VirtualSmartCardProcChangePin"
    title = "Change PIN"
    description = "Lets you choose a new PIN for this card. You need the PIN that it has now."
    role = Role.SELF_SERVICE
    target = Target(
        frozenset({ObjectKind.VIRTUAL_SMART_CARD}), frozenset({VirtualSmartCardState.ACTIVE.value}), own=True
    )
    steps = (
        Step("information", "Information"),
        Step(OPEN, "Open Inlay"),
        Step(DETAILS, "Details", settled=True),
        Step("done", "Done", settled=True),
    )
    progress = {  # noqa: RUF012  # read only
        OrderStep.CONSENT: ("Your consent", "Inlay's window asks for the PIN of the card and a new one."),
        OrderStep.BINDING: BINDING,
        OrderStep.FINISHED: ("Done", "The card has its new PIN."),
    }

    def __init__(self, context: Context) -> None:
        self._context = context

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card and the account."""
        return await card_orders.variables(self._context, tx, parties)

    async def advance(self, turn: Turn) -> None:
        """Make the order; from *open* it moves the process itself."""
        match turn.process.step:
            case "information":
                card = cast(Card, turn.parties.target)
                options = await card_orders.options_of(turn.tx)
                wanted = ChangePin(
                    card=card.id, guid=card.guid, label=card.label, pin_policy=options.pin_policy
                )
                await card_orders.order(self._context, turn, wanted)
            case "details":
                finish(turn, "done")
            case _:
                state = turn.order.state if turn.order else "missing"
                raise WrongState("order", state, (OrderState.FINISHED.value,))

    def facts(self, process: Process) -> Mapping[str, str]:
        """Which card."""
        return {"Card": cast(CoreObject, process.variables["card"]).label}

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """The card has the one PIN or the other."""
        if process.step == DETAILS or process.state != ProcessState.RUNNING:
            return "This process is closed. The card keeps its new PIN."
        if order is None or order.state == OrderState.WAITING:
            return "Nothing was changed yet. The card keeps its PIN."
        return "The card keeps its PIN, unless it has just taken the new one: Inlay's window says which."

"""``CardsSelfServiceProcCheck``: the person sees whether card, PIN and certificate work: the card authenticates."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, cast

from portal.errors import WrongState
from portal.model.objects import CoreObject
from portal.model.states import OrderState, ProcessState, Role
from portal.processes import card_orders
from portal.processes.definition import OPEN, Definition, Step, finish
from portal.processes.endings import DETAILS
from portal.processes.operations.card_signing import SIGNATURE
from portal.store.tables import Card
from protocol.messages import Authenticate
from protocol.messages import Step as OrderStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process


class CheckCard(Definition):
    """Orders *authenticate* with a challenge of its own."""

    name = "CardsSelfServiceProcCheck"
    title = "Check card"
    description = "Shows whether this card works: it signs once, with its PIN, and the portal checks it."
    role = Role.SELF_SERVICE
    target = card_orders.USABLE
    steps = (
        Step("information", "Information"),
        Step(OPEN, "Open Inlay"),
        Step(DETAILS, "Details", settled=True),
        Step("done", "Done", settled=True),
    )
    progress = {  # noqa: RUF012  # read only
        OrderStep.CONSENT: ("Your consent", "Inlay's window says what will happen, and asks for the PIN."),
        OrderStep.BINDING: ("This browser", "It is made sure that this page and Inlay belong together."),
        OrderStep.CARD: ("Card", "A card for a reader: put it in. Inlay's window asks for its PIN."),
        OrderStep.PROVING: ("Check", "The card signs for this portal."),
        OrderStep.FINISHED: ("Done", "The portal has checked the card's signature."),
    }

    def __init__(self, context: Context) -> None:
        self._context = context

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """A card in a reader has to have been encoded for its holder."""
        await card_orders.check_usable(tx, cast(Card, parties.target))

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card and the account."""
        return await card_orders.variables(self._context, tx, parties)

    async def advance(self, turn: Turn) -> None:
        """Make the order; from *open* it moves the process itself."""
        match turn.process.step:
            case "information":
                card = cast(Card, turn.parties.target)
                wanted = Authenticate(
                    card=card.id,
                    driver=card_orders.driver_of(card),
                    guid=card.guid,
                    label=card.label,
                    challenge=secrets.token_urlsafe(32),
                )
                await card_orders.order(self._context, turn, wanted)
            case "details":
                finish(turn, "done")
            case _:
                state = turn.order.state if turn.order else "missing"
                raise WrongState("order", state, (OrderState.FINISHED.value,))

    def facts(self, process: Process) -> Mapping[str, str]:
        """Which card, and what was found."""
        found = {"Card": cast(CoreObject, process.variables["card"]).label}
        if (signature := process.variables.get(SIGNATURE)) is not None:
            found["Result"] = "The card works: PIN, key and certificate are good."
            found["Certificate"] = f"serial number {signature['serial']}"
        return found

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing is changed in any case."""
        if process.state != ProcessState.RUNNING or process.step == DETAILS:
            return "This process is closed. The card is as it was."
        return "The card is as it was. The process is closed."

"""``CardsProcRead``: an operator sees what the card in a reader is, and whose; nothing is changed on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from portal.errors import WrongState
from portal.model.options import Form
from portal.model.states import OrderState, ProcessState, Role
from portal.processes import card_descriptions
from portal.processes.card_descriptions import BUILT_IN, CHOICE
from portal.processes.definition import BINDING, OPEN, Definition, Step, finish, open_order
from portal.processes.endings import DETAILS
from portal.processes.operations.read_card import KNOWN, READING
from protocol.messages import ReadCard
from protocol.messages import Step as OrderStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.model.objects import CoreObject
    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process

_RESUME_WITHIN = 600


class ReadCardInReader(Definition):
    """Orders *read card*."""

    name = "CardsProcRead"
    title = "Read card"
    description = (
        "Shows what the card in a reader is, and whose. Nothing is changed, and no PIN is asked for."
    )
    role = Role.OPERATOR
    progress = {  # noqa: RUF012  # read only
        OrderStep.CONSENT: ("Consent", "Inlay's window says what will be told of the card."),
        OrderStep.BINDING: BINDING,
        OrderStep.CARD: ("Card", "Put the card in a reader of this computer."),
        OrderStep.FINISHED: ("Done", "The card was read."),
    }

    def __init__(self, context: Context) -> None:
        self._context = context
        kinds = [name for name, item in context.descriptions.items() if item.driver != "piv"]
        self.steps = (
            Step("information", "Information", Form(card_descriptions.option(kinds))),
            Step(OPEN, "Open Inlay"),
            Step(DETAILS, "Details", settled=True),
            Step("done", "Done", settled=True),
        )

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The account as the consent window shows it."""
        return {"user_id": parties.user.email}

    async def advance(self, turn: Turn) -> None:
        """Make the order; from *open* it moves the process itself."""
        match turn.process.step:
            case "information":
                now = self._context.clock()
                picked = cast(str, turn.values.get(CHOICE, BUILT_IN))
                wanted = ReadCard(driver=card_descriptions.driver_of(self._context, picked))
                open_order(turn, wanted, resume_within=_RESUME_WITHIN, now=now)
            case "details":
                finish(turn, "done")
            case _:
                state = turn.order.state if turn.order else "missing"
                raise WrongState("order", state, (OrderState.FINISHED.value,))

    def facts(self, process: Process) -> Mapping[str, str]:
        """What was read."""
        read = process.variables.get(READING)
        if read is None:
            return {"Card": "whatever card is in a reader of this computer"}
        known = cast("CoreObject | None", process.variables.get(KNOWN))
        found = {
            "Card": read["kind"],
            "Known here as": "no card of this portal" if known is None else _name(known),
            "Identity (GUID)": read["guid"] or "none",
            "Serial number": read["serial"] or "not told",
            "PIN": _tries(read["pin_tries"]),
            "PUK": _tries(read["puk_tries"]),
        }
        if read["features"]:
            found["Also knows"] = ", ".join(name.replace("_", " ") for name in read["features"])
        for number, line in enumerate(read["certificates"], 1):
            found[f"Certificate {number}"] = line
        if read["omitted"]:
            found["Not shown"] = f"{read['omitted']} certificates that can't be read, or were too many"
        return found

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing is changed in any case."""
        if process.state != ProcessState.RUNNING or process.step == DETAILS:
            return "This process is closed. The card is as it was."
        return "The card is as it was. The process is closed."


def _name(card: CoreObject) -> str:
    return f"{card.label} ({card.kind.value.replace('_', ' ')})"


def _tries(left: int | None) -> str:
    if left is None:
        return "tries left: not told"
    return "blocked" if left == 0 else f"tries left: {left}"

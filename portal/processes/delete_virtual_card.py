"""``VirtualSmartCardProcDelete``: the owner removes a card, here and on the computer; off by default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from portal.errors import SwitchedOff, WrongState
from portal.model.objects import CoreObject, ObjectKind
from portal.model.states import OrderState, Role, VirtualSmartCardState
from portal.model.virtual_card_options import DELETE, NAME
from portal.processes import card_orders, certificates, deleted_cards
from portal.processes.definition import BINDING, OPEN, Definition, Step, Target, finish
from portal.processes.endings import DETAILS
from portal.store import objects
from portal.store.tables import Card
from portal.store.transitions import is_final
from protocol.messages import DeleteVirtualCard
from protocol.messages import Step as OrderStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process


class DeleteCard(Definition):
    """Orders *delete virtual card*: certificates revoked, card Locked, and gone from the computer.

    A card that is Registered was never finished: no computer has it, and it ends here without an order.
    """

    name = "VirtualSmartCardProcDelete"
    title = "Delete"
    description = "Removes this card from your computer and has its certificates revoked."
    role = Role.SELF_SERVICE
    target = Target(
        frozenset({ObjectKind.VIRTUAL_SMART_CARD}),
        frozenset(state.value for state in VirtualSmartCardState),
        own=True,
    )
    steps = (
        Step("information", "Information"),
        Step(OPEN, "Open Inlay"),
        Step(DETAILS, "Details", settled=True),
        Step("done", "Done", settled=True),
    )
    progress = {  # noqa: RUF012  # read only
        OrderStep.CONSENT: ("Your consent", "Inlay's window says what is lost and asks you to confirm it."),
        OrderStep.BINDING: BINDING,
        OrderStep.FINISHED: ("Done", "The card is deleted."),
    }

    def __init__(self, context: Context) -> None:
        self._context = context

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """An administrator must have allowed it."""
        if not (await card_orders.options_of(tx)).may_delete:
            raise SwitchedOff(NAME, DELETE)

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, and the certificates that will be revoked."""
        card = cast(Card, parties.target)
        rows = await certificates.of_card(tx, card)
        return {
            **await card_orders.variables(self._context, tx, parties),
            "certificates": [objects.describe(row) for row in rows if not is_final(tx, row)],
        }

    async def advance(self, turn: Turn) -> None:
        """Make the order, or end a card that was never finished."""
        card = cast(Card, turn.parties.target)
        match turn.process.step:
            case "information" if card.state == VirtualSmartCardState.REGISTERED:
                await card_orders.refuse_while_ordered(turn.tx, card)
                await deleted_cards.end(turn.tx, card, turn.parties.user.email, self._context.clock())
                finish(turn, "done")
            case "information":
                wanted = DeleteVirtualCard(card=card.id, guid=card.guid, label=card.label)
                await card_orders.order(self._context, turn, wanted)
            case "details":
                finish(turn, "done")
            case _:
                state = turn.order.state if turn.order else "missing"
                raise WrongState("order", state, (OrderState.FINISHED.value,))

    def facts(self, process: Process) -> Mapping[str, str]:
        """Which card, and what is revoked with it."""
        revoked = cast(list[CoreObject], process.variables["certificates"])
        return {
            "Card": cast(CoreObject, process.variables["card"]).label,
            "Certificates to revoke": ", ".join(item.label for item in revoked) or "none",
        }

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """The card stays until everything is decided."""
        if process.step in (DETAILS, "done"):
            return "This process is closed. The card is deleted."
        return "Nothing was done yet. The card stays as it is."

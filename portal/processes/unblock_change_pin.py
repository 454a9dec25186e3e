"""``CardsSelfServiceProcUnblockChangePIN``: whoever has a card changes its PIN, or gets a new one by its PUK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from portal.encoding.piv_rules import Part
from portal.errors import FieldErrors
from portal.model.objects import CoreObject, ObjectKind
from portal.model.options import Form, Option
from portal.model.states import CardState, OrderState, ProcessState, Role, TemporaryCardState
from portal.processes import card_orders, pin_entry, puk_source
from portal.processes.card_process import CardProcess
from portal.processes.definition import BINDING, OPEN, Step, Target
from portal.processes.endings import DETAILS
from portal.processes.extend_temporary_card import PIN_POLICY
from portal.store.tables import Card
from protocol.messages import ChangePin, UnblockPin
from protocol.messages import Step as OrderStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process

_CHANGE, _UNBLOCK = "change", "unblock"
_WHERE_UNBLOCKED: Final = "pin_entry_unblocked"
"""Process variable: where a new PIN is typed that the PUK sets."""
_AT_KEYS: Final = "pin_at_keys"
"""Process variable: the card's own description wants it there at the keys of a reader, and nowhere else."""
ACTION: Final = Option(
    "Action",
    "What is to be done",
    "Unblock it, too, when it is blocked. The card gets a new PIN in either case.",
    "choice",
    _CHANGE,
    choices=(_CHANGE, _UNBLOCK),
    captions={
        _CHANGE: "Change the PIN: I know it",
        _UNBLOCK: "Unblock: I don't know it",
    },
)
SOURCE: Final = puk_source.source("Counts where it is unblocked.")
_SAYS: Final = {
    puk_source.PORTAL: "set anew by the card's PUK, which the portal tells it",
    puk_source.TYPED: "set anew by the card's PUK, which its holder types",
}


def where_unblocked(process: Process) -> pin_entry.Where:
    """Where PUK and new PIN are typed; a process of an earlier version has one place for everything."""
    return cast(pin_entry.Where, process.variables.get(_WHERE_UNBLOCKED, pin_entry.of(process)))


class UnblockChangePin(CardProcess):
    """Orders *change PIN* or *unblock PIN* of a card in a reader; the portal never sees a PIN."""

    name = "CardsSelfServiceProcUnblockChangePIN"
    title = "Unblock or change PIN"
    description = "Lets you choose a new PIN for this card, whether you know the one that it has or not."
    role = Role.SELF_SERVICE
    target = Target(
        frozenset({ObjectKind.CARD, ObjectKind.TEMPORARY_CARD}),
        frozenset({CardState.ACTIVE.value, TemporaryCardState.ASSIGNED.value}),
        own=True,
    )
    steps = (
        Step("action", "What is to be done", Form((ACTION, SOURCE))),
        Step(OPEN, "Open Inlay"),
        Step(DETAILS, "Details", settled=True),
        Step("done", "Done", settled=True),
    )
    progress = {  # noqa: RUF012  # read only
        OrderStep.CONSENT: ("Your consent", "Inlay's window says what will happen."),
        OrderStep.BINDING: BINDING,
        OrderStep.CARD: ("Card", "Put the card in the reader, and type where Inlay's window says."),
        OrderStep.FINISHED: ("Done", "The card has its new PIN."),
    }

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, the account, and where PINs are typed."""
        card = cast(Card, parties.target)
        changed = await pin_entry.variables(self._context, tx, card, Part.CHANGE_PIN)
        unblocked = await pin_entry.variables(self._context, tx, card, Part.UNBLOCK_PIN)
        return {
            **await super().variables(tx, parties),
            **changed,
            _WHERE_UNBLOCKED: unblocked[pin_entry.VARIABLE],
            _AT_KEYS: pin_entry.described(self._context, card, Part.UNBLOCK_PIN) == "pad",
        }

    def wanted(self, turn: Turn, card: Card) -> ChangePin | UnblockPin:
        """The order. A PUK that the portal brings is known to nobody who could type it at a reader."""
        if turn.values[ACTION.name] == _CHANGE:
            known = card_orders.named(card)
            return ChangePin(**known, pin_policy=PIN_POLICY, where=pin_entry.of(turn.process))
        if puk_source.is_typed(turn):
            known = card_orders.named(card)
            where = where_unblocked(turn.process)
            return UnblockPin(**known, pin_policy=PIN_POLICY, puk="typed", where=where)
        return UnblockPin(**card_orders.named(card), pin_policy=PIN_POLICY, puk="escrow")

    async def advance(self, turn: Turn) -> None:
        """Make the order, or end.

        Raises:
            FieldErrors: the card has refused the portal's PUK: once more would cost another try; the card's description
                wants everything typed at the reader, where nobody could type the portal's.
        """
        if turn.process.step == self.steps[0].name and turn.values.get(ACTION.name) == _UNBLOCK:
            if turn.process.variables.get(_AT_KEYS) and not puk_source.is_typed(turn):
                said = "This card's PIN is typed at the keys of a reader alone, and so is the PUK that unblocks it."
                raise FieldErrors({SOURCE.name: said})
            await puk_source.check(turn)
        await super().advance(turn)

    def facts(self, process: Process) -> Mapping[str, str]:
        """Which card, and what is done."""
        found = {"Card": cast(CoreObject, process.variables["card"]).label}
        if (action := process.variables.get(ACTION.name)) is not None:
            source = cast(str, process.variables.get(SOURCE.name, puk_source.PORTAL))
            found["PIN"] = "changed by who knows it" if action == _CHANGE else _SAYS[source]
        return found

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """The card has the one PIN or the other."""
        if process.step == DETAILS or process.state != ProcessState.RUNNING:
            return "This process is closed. The card keeps its new PIN."
        if order is None or order.state == OrderState.WAITING:
            return "Nothing was changed yet. The card keeps its PIN."
        return "The card keeps its PIN, unless it has just taken the new one: Inlay's window says which."

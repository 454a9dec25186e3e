"""``VirtualSmartCardProcLockForOperator``: an operator locks somebody's virtual smart card for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import select

from portal.ca.authority import Reason
from portal.errors import WrongState
from portal.model import states
from portal.model.graphs import Why
from portal.model.objects import CoreObject, ObjectKind
from portal.model.options import Form, Option
from portal.model.states import OrderState, Role, VirtualSmartCardState
from portal.processes import certificates, endings
from portal.processes.definition import Definition, Step, Target, finish
from portal.store import objects
from portal.store.tables import Card, Order
from portal.store.transitions import StateChange, change_state, is_final
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Process

REASON: Final = Option(
    "Reason",
    "Reason",
    "Why the card is locked. It stays in the card's history, where other operators read it.",
    "text",
    "",
    low=3,
    high=200,
)
_LOCKED: Final = VirtualSmartCardState.LOCKED
_STOPPABLE: Final = (OrderState.WAITING.value, OrderState.RUNNING.value)
_ENDED: Final = frozenset({OrderState.FINISHED.value, OrderState.UNDONE.value})


class LockForOperator(Definition):
    """Asks for a reason; then the card is Locked and the CA is asked to revoke its certificates, reason unspecified.

    Card, queue and audit log change in one transaction. The certificates are shown as Revoked when the CA has confirmed
    it, which may be later: until then their revocation is pending.
    """

    name = "VirtualSmartCardProcLockForOperator"
    title = "Lock"
    description = "Locks the card for good and has all its certificates revoked."
    role = Role.OPERATOR
    target = Target(
        frozenset({ObjectKind.VIRTUAL_SMART_CARD}),
        frozenset(state.value for state in states.VIRTUAL_SMART_CARD.before(_LOCKED)),
    )
    steps = (Step("reason", "Reason", Form((REASON,))), Step("done", "Done", settled=True))

    def __init__(self, context: Context) -> None:
        self._context = context

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """Not while an order that can't be stopped any more has the card: it would find it locked at its end.

        These are an order that is just being finished, and one that makes the card, which its holder can cancel.
        """
        card = cast(Card, parties.target)
        making = card.state == VirtualSmartCardState.REGISTERED
        unstoppable = Order.state.not_in(_ENDED) if making else Order.state == OrderState.FINISHING.value
        query = select(Order.state).where(Order.card_id == card.id, unstoppable)
        running = (await tx.scalars(query.limit(1))).first()
        if running is not None:
            raise WrongState("order", running, _ENDED)

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, and the certificates that will be revoked."""
        card = cast(Card, parties.target)
        rows = await certificates.of_card(tx, card)
        return {
            "card": objects.describe(card),
            "certificates": [objects.describe(row) for row in rows if not is_final(tx, row)],
        }

    async def advance(self, turn: Turn) -> None:
        """Lock, and ask for the revocations."""
        card = cast(Card, turn.parties.target)
        now, actor = self._context.clock(), turn.parties.user.email
        note = cast(str, turn.values[REASON.name])
        await change_state(turn.tx, card, _LOCKED, StateChange(actor, now, Why.LOCKED, note))
        for certificate in await certificates.of_card(turn.tx, card, lock=True):
            await certificates.enqueue_revocation(turn.tx, certificate, Reason.UNSPECIFIED, actor, now)
        await self._stop_orders(turn, card, actor)
        finish(turn, "done")

    async def _stop_orders(self, turn: Turn, card: Card, actor: str) -> None:
        """Undo what agents are doing to the card.

        Others lock an order before its card, and this transaction has the card already: an order that somebody has
        locked is passed over instead of waited for. Its receipt waits for the card, finds it Locked, and is refused.
        """
        query = select(Order).where(Order.card_id == card.id, Order.state.in_(_STOPPABLE))
        for order in await turn.tx.scalars(query.with_for_update(skip_locked=True)):
            error = InlayError("card_ended", state=card.state.lower())
            await endings.undo(self._context, turn.tx, order, error, actor)

    def facts(self, process: Process) -> Mapping[str, str]:
        """What will be revoked, and why the card was locked."""
        revoked = cast(list[CoreObject], process.variables["certificates"])
        facts = {"Certificates to revoke": ", ".join(item.label for item in revoked) or "none"}
        if reason := process.variables.get(REASON.name):
            facts["Reason"] = cast(str, reason)
        return facts

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing was done before the only *Next*."""
        return "Nothing was done yet. The card stays as it is."

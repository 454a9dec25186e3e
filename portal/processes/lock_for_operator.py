"""``VirtualSmartCardProcLockForOperator``: an operator locks somebody's virtual smart card for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from sqlalchemy import select

from portal.ca.authority import Reason
from portal.errors import WrongState
from portal.model import states
from portal.model.graphs import Why
from portal.model.objects import ObjectKind
from portal.model.states import CardState, OrderState, VirtualSmartCardState
from portal.processes import certificates, endings
from portal.processes.definition import Target
from portal.processes.state_process import StateProcess
from portal.store.tables import Card, Order
from protocol.errors import InlayError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.definition import Parties, Turn

_LOCKED: Final = VirtualSmartCardState.LOCKED
_STOPPABLE: Final = (OrderState.WAITING.value, OrderState.RUNNING.value)
_ENDED: Final = frozenset({OrderState.FINISHED.value, OrderState.UNDONE.value})


class LockForOperator(StateProcess):
    """Asks for a reason; then the card is Locked and the CA is asked to revoke its certificates, reason unspecified.

    Card, queue and audit log change in one transaction. The certificates are shown as Revoked when the CA has confirmed
    it, which may be later: until then their revocation is pending.
    """

    name = "VirtualSmartCardProcLockForOperator"
    title = "Lock"
    description = "Locks the card for good and has all its certificates revoked."
    target = Target(
        frozenset({ObjectKind.VIRTUAL_SMART_CARD}),
        frozenset(state.value for state in states.VIRTUAL_SMART_CARD.before(_LOCKED)),
    )
    to: CardState | VirtualSmartCardState = _LOCKED
    why = Why.LOCKED

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

    async def follow(self, turn: Turn, card: Card, now: int) -> None:
        """Ask for the revocations, and stop what is done to it."""
        actor = turn.parties.user.email
        for certificate in await certificates.of_card(turn.tx, card, lock=True):
            await certificates.enqueue_revocation(turn.tx, certificate, Reason.UNSPECIFIED, actor, now)
        await self._stop_orders(turn, card, actor)

    async def _stop_orders(self, turn: Turn, card: Card, actor: str) -> None:
        """Undo what agents are doing to the card.

        Others lock an order before its card, and this transaction has the card already: an order that somebody has
        locked is passed over instead of waited for. Its receipt waits for the card, finds it Locked, and is refused.
        """
        query = select(Order).where(Order.card_id == card.id, Order.state.in_(_STOPPABLE))
        for order in await turn.tx.scalars(query.with_for_update(skip_locked=True)):
            error = InlayError("card_ended", state=card.state.lower())
            await endings.undo(self._context, turn.tx, order, error, actor)

"""*Encode card* without keys: a temporary card is made ready for whoever gets it later, and is nobody's until then.

It gets its identity, a PUK, a PIN that nobody knows and a management key. Its first holder's encoding sets another PIN
by that PUK, and gives it another GUID.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portal.ca.authority import Reason
from portal.model.graphs import Why
from portal.model.states import TemporaryCardState
from portal.processes import card_proof, card_serials, management_keys, temporary_cards
from portal.processes.card_pieces import takes_another, told_serial
from portal.store import audit
from portal.store.transitions import StateChange, change_state
from protocol.errors import InlayError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Card, ManagedCard, Order

STATES: Final = frozenset(
    {TemporaryCardState.REQUESTED, TemporaryCardState.FAILED, TemporaryCardState.UNASSIGNED}
)
"""In which a temporary card can be made ready."""


async def check_receipt(context: Context, tx: AsyncSession, card: Card, order: Order) -> None:
    """Two stations may have had the same card, one after the other: it is one card object's.

    Raises:
        InlayError: ``card_in_use``, ``card_not_proved``.
    """
    card_proof.check(order)
    serial = await told_serial(tx, order)
    other = None if serial is None else await card_serials.taken_before(tx, serial, card.driver, but=card.id)
    if other is not None:
        raise InlayError("card_in_use", label=other)
    if await takes_another(tx, order):
        _give_up(card, await management_keys.managed_card(context, tx, card.id), serial)
    elif serial is not None:
        card.serial = serial  # the order has won: nobody else is given the number before it has ended


async def finish(context: Context, tx: AsyncSession, card: Card, order: Order, actor: str, now: int) -> None:
    """It is Unassigned; whatever was certified for a holder before is revoked."""
    managed = await management_keys.managed_card(context, tx, card.id)
    managed.prepared_at = managed.changed_at = now
    managed.encoded_for = managed.pending_guid = None
    card_proof.settle(managed, order)
    card.guid = order.parameters["guid"]
    card.attested, card.changed_at = False, now
    await temporary_cards.end_certificates(tx, card, Reason.CESSATION_OF_OPERATION, actor, now)
    await change_state(tx, card, TemporaryCardState.UNASSIGNED, StateChange(actor, now, Why.PRODUCED))
    await audit.record(
        tx,
        at=now,
        actor=actor,
        action="card.prepared",
        kind=card.kind,
        object_id=card.id,
        order=order.jti,
        serial=card.serial,
    )


async def half_done(tx: AsyncSession, card: Card, managed: ManagedCard, order: Order) -> None:
    """The card that was begun is from now on the card object's; one that it had before is given up."""
    told = await told_serial(tx, order)
    if await takes_another(tx, order):
        _give_up(card, managed, told)
    elif told is not None:
        card.serial = told


def _give_up(card: Card, managed: ManagedCard, serial: str | None) -> None:
    """What the portal knew of the card that had this place before is not so of the other one: that has its maker's."""
    managed.key_generation, managed.key_algorithm = 0, None
    managed.prepared_at, managed.mutual = None, False
    card.sealed_puk, card.serial = None, serial or ""

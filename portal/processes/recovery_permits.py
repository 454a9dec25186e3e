"""Whether archived keys of a person may leave the archive again: always, or once for each agreement of two persons.

One option says so for orders of their owner's own, another one for those that somebody else has begun: an operator who
encodes the person's card (``docs/adr/0029-two-options-for-two-persons.md``).

A permit is one row, made when the approver agrees and used up by one order, in the transaction that delivers the keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from portal import option_store
from portal.model import archive_options
from portal.processes import order_rows
from portal.store import audit
from portal.store.tables import ArchivedKey, RecoveryPermit
from protocol.errors import InlayError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import PublicJwk


async def check(tx: AsyncSession, owner_id: str, now: int) -> None:
    """Check, before anything is begun, that keys of a person could be recovered now.

    Raises:
        InlayError: ``recovery_not_approved``.
    """
    if await _needed(tx, by_owner=True) and await _open(tx, owner_id, now) is None:
        raise InlayError("recovery_not_approved")


async def may_go_to_reader(tx: AsyncSession, owner_id: str, now: int) -> bool:
    """Whether a person's keys may go on to a card in somebody else's reader now.

    By an agreement that no order has used up, or because none is needed.
    """
    return not await _needed(tx, by_owner=False) or await _open(tx, owner_id, now) is not None


async def deliver(context: Context, tx: AsyncSession, order: Order, key_id: str, recipient: PublicJwk) -> str:
    """Encrypt an archived key to an order's ephemeral key, if whom the order is for may have it. Can be repeated.

    Returns:
        Compact JWE of the PKCS#8 (DER).

    Raises:
        InlayError: ``recovery_not_approved``; ``internal``: the key is another person's.
    """
    key = await tx.get_one(ArchivedKey, key_id)
    holder = await order_rows.holder(tx, order)
    if key.owner_id != holder.id:
        raise InlayError("internal")
    now = context.clock()
    needed = await _needed(tx, by_owner=order.user_id == holder.id)
    permit = await _use(tx, order, holder.id, now) if needed else None
    await audit.record(
        tx,
        at=now,
        actor=f"device:{order.device_jkt}",
        action="archived_key.recovered",
        kind="archived_key",
        object_id=key_id,
        order=order.jti,
        permit=permit.process_id if permit else "",
    )
    return await context.archive.deliver(tx, key_id, recipient, f"device:{order.device_jkt}")


async def _use(tx: AsyncSession, order: Order, owner_id: str, now: int) -> RecoveryPermit:
    """The permit that this order uses, or uses up now."""
    used = select(RecoveryPermit).where(RecoveryPermit.used_by == order.jti).with_for_update()
    permit = (await tx.execute(used)).scalars().first()
    if permit is None:
        permit = await _open(tx, owner_id, now)
        if permit is None:
            raise InlayError("recovery_not_approved")
        permit.used_by, permit.used_at = order.jti, now
    return permit


async def _needed(tx: AsyncSession, *, by_owner: bool) -> bool:
    saved = await option_store.current(tx, archive_options.NAME)
    in_reader = not by_owner and bool(saved.values[archive_options.IN_READER])
    return in_reader or bool(saved.values[archive_options.TWO_PERSONS])


async def _open(tx: AsyncSession, owner_id: str, now: int) -> RecoveryPermit | None:
    """The permit of a person that ends first of those that can be used."""
    query = select(RecoveryPermit).where(
        RecoveryPermit.owner_id == owner_id, RecoveryPermit.used_by.is_(None), RecoveryPermit.expires_at > now
    )
    return (
        (await tx.execute(query.order_by(RecoveryPermit.expires_at).limit(1).with_for_update()))
        .scalars()
        .first()
    )

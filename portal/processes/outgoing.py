"""Messages of the portal: numbered, signed and stored before anything is sent.

The connection that carries an order sends what lies in the outbox after the highest number its device has taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from portal.processes import order_rows
from portal.store.tables import OutgoingMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import Message


async def send(context: Context, tx: AsyncSession, order: Order, body: Message) -> None:
    """Put a message into the outbox, in the transaction that decides on it.

    Raises:
        InlayError: ``message_unexpected``: it has no place at this stage.
    """
    key = context.keys.order_keys()[0]
    peer = await order_rows.device_key(tx, order)
    exchange = order_rows.exchange(order, key, peer)
    token = exchange.send(body)
    order_rows.set_position(order, exchange.position)
    tx.add(OutgoingMessage(jti=order.jti, seq=order.sent, token=token, created_at=context.clock()))
    order_rows.changed(tx, order)


async def after(context: Context, jti: str, seq: int) -> Sequence[tuple[int, str]]:
    """The outbox after a number: pairs of number and token."""
    query = select(OutgoingMessage.seq, OutgoingMessage.token).where(
        OutgoingMessage.jti == jti, OutgoingMessage.seq > seq
    )
    async with context.database.read() as tx:
        rows = await tx.execute(query.order_by(OutgoingMessage.seq))
        return [(row.seq, row.token) for row in rows]

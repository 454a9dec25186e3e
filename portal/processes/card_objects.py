"""Data objects of a PIV card: what an order writes, and what it removes of whoever had the card before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from portal.model.states import OrderState
from portal.store.tables import Order
from protocol import data_objects
from protocol.messages import DataObject

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.encoding.plan import Plan
    from portal.store.tables import Card


async def ordered(tx: AsyncSession, card: Card, plan: Plan, *, fresh: bool) -> list[DataObject]:
    """The objects of an order.

    Args:
        tx: a transaction.
        card: the card.
        plan: what is to be done.
        fresh: the card becomes somebody's.
    """
    written = [DataObject(item.tag, bytes.fromhex(item.content)) for item in plan.objects]
    return written + (await left_by_others(tx, card, {item.tag for item in written}) if fresh else [])


async def left_by_others(tx: AsyncSession, card: Card, coming: Collection[str] = ()) -> list[DataObject]:
    """To be removed: what earlier orders have written, or may have, and no order has removed since.

    Objects that others than this portal have put on the card aren't known, and stay.

    Args:
        tx: a transaction.
        card: the card.
        coming: tags of objects that are written anew.
    """
    query = select(Order.parameters, Order.state).where(
        Order.card_id == card.id, Order.changing_at.is_not(None)
    )
    there: set[str] = set()
    for parameters, state in await tx.execute(query.order_by(Order.created_at)):
        for item in parameters.get("objects", ()):
            if item.get("content") is not None:
                there.add(item["tag"])
            elif state == OrderState.FINISHED.value:
                there.discard(item["tag"])
    return [DataObject(tag) for tag in sorted(there.difference(coming))]


def fact(plan: Plan) -> str:
    """What is written, for people; empty: nothing."""
    return ", ".join(data_objects.name(item.tag) for item in plan.objects)

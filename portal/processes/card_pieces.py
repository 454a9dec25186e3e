"""Which physical card stands behind a card object, while one is made ready that has no number at the portal yet.

A card object stays what it is when another, blank card takes the place of one that was begun or made before: that one
is given up, and none of its secrets go to the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portal.store.tables import Process

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.store.tables import Order

ANOTHER: Final = "another_card"
"""Process variable: the order is about another, blank card."""
TOLD_SERIAL: Final = "told_serial"
"""Process variable: the serial number that the card told which an order goes on with, decimal; None: it told none."""


async def takes_another(tx: AsyncSession, order: Order) -> bool:
    """Whether an order is about another, blank card in place of the one that its card object had."""
    return bool((await tx.get_one(Process, order.process_id)).variables.get(ANOTHER, False))


async def told_serial(tx: AsyncSession, order: Order) -> str | None:
    """The serial number of the card that an order goes on with, if it told one."""
    serial: str | None = (await tx.get_one(Process, order.process_id)).variables.get(TOLD_SERIAL)
    return serial

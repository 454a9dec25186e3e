"""What an operation of orders is to the portal: the part of an order's life that differs from one to the next.

``incoming`` and ``endings`` carry every order along; at five points they ask its operation. All of it runs in their
transactions, so that an order and its objects change together or not at all. An operation keeps no state of its own:
``portal.processes.operations`` has one module for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import Consented, Receipt, Requests


class OrderOperation(Protocol):
    """One operation.

    Whatever a method raises as ``InlayError`` undoes the order with that error.
    """

    def check_consent(self, order: Order, consented: Consented) -> None:
        """Check what the device says of itself at consent, before anything is made."""

    async def register(self, context: Context, tx: AsyncSession, order: Order, requests: Requests) -> None:
        """Store or check the card that the requests are for. Asked only of operations that certify.

        Runs in the transaction that stores the intents for the CA.
        """

    async def check_receipt(self, context: Context, tx: AsyncSession, order: Order, receipt: Receipt) -> None:
        """Check a receipt; when this returns the order has won."""

    async def finish(self, context: Context, tx: AsyncSession, order: Order) -> None:
        """Move the objects of an order that has won to their new states.

        Raises:
            WrongState: an object isn't in the state it must be in.
        """

    async def undo(self, context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
        """See to it that nothing of an undone order becomes or stays valid."""

"""The operation *sign*: the card's signature key has signed a document's digest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portal.processes import order_rows
from portal.processes.operations import card_signing
from protocol.errors import DecodeError, InlayError
from protocol.messages import Sign

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import Consented, Receipt, Requests

_SLOT: Final = "9C"


class SignOperation:
    """See ``portal.processes.operation.OrderOperation``."""

    def check_consent(self, order: Order, consented: Consented) -> None:
        """Nothing is kept that a device could have a say in."""
        if consented.storage is not None:
            raise DecodeError("params_invalid", "$.storage")

    async def register(self, context: Context, tx: AsyncSession, order: Order, requests: Requests) -> None:
        """It certifies nothing.

        Raises:
            InlayError: ``message_unexpected``.
        """
        raise InlayError("message_unexpected")

    async def check_receipt(self, context: Context, tx: AsyncSession, order: Order, receipt: Receipt) -> None:
        """The signature is over the digest that was ordered."""
        ordered = order_rows.parameters_as(order, Sign)
        await card_signing.accept(context, tx, order, ordered, receipt, slot=_SLOT, digest=ordered.digest)

    async def finish(self, context: Context, tx: AsyncSession, order: Order) -> None:
        """The card stays as it is."""
        card = order_rows.parameters_as(order, Sign).card
        await card_signing.note(context, tx, order, card, action="card.signed")

    async def undo(self, context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
        """A signature that comes too late is not kept."""

"""The operation *authenticate*: the card's authentication key has signed the order's challenge for this origin."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from portal.processes import activation, order_rows
from portal.processes.operations import card_signing
from protocol import proofs
from protocol.errors import DecodeError, InlayError
from protocol.messages import Authenticate

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import Consented, Receipt, Requests


class AuthenticateOperation:
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
        """The signature is over this portal's own origin and the challenge of this very order."""
        ordered = order_rows.parameters_as(order, Authenticate)
        message = proofs.authentication_input(context.origin, ordered.challenge)
        digest = hashlib.sha256(message).digest()
        activates = await activation.is_ordered(tx, order)
        takes = card_signing.ISSUED if activates else card_signing.IN_USE
        card = await card_signing.accept(
            context, tx, order, ordered, receipt, slot=activation.SLOT, digest=digest, takes=takes
        )
        if activates:
            await activation.by_order(context, tx, order, card)

    async def finish(self, context: Context, tx: AsyncSession, order: Order) -> None:
        """Nothing is left to do: a card that this has activated is Active since its receipt."""
        card = order_rows.parameters_as(order, Authenticate).card
        await card_signing.note(context, tx, order, card, action="card.authenticated")

    async def undo(self, context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
        """Nothing of it is valid or not."""

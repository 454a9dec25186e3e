"""What the operations on a card that is there have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.processes import card_orders
from portal.store.tables import Card
from protocol.errors import DecodeError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from protocol.messages import (
        BlockCard,
        ChangePin,
        ChangePuk,
        DeleteVirtualCard,
        Receipt,
        UnblockPin,
        VerifyPin,
    )


async def accept_receipt(
    tx: AsyncSession,
    ordered: BlockCard | ChangePin | ChangePuk | DeleteVirtualCard | UnblockPin | VerifyPin,
    receipt: Receipt,
    *,
    may_replace_puk: bool = False,
) -> None:
    """Check that a receipt is of the card that was ordered, and keep how often its file was saved.

    Raises:
        DecodeError: ``params_invalid``: it is another card's.
    """
    card = await tx.get_one(Card, ordered.card, with_for_update=True)
    if receipt.guid != card_orders.guid_of(card):
        raise DecodeError("params_invalid", "$.guid")
    if receipt.proofs:
        raise DecodeError("params_invalid", "$.proofs")
    if receipt.signature is not None:
        raise DecodeError("params_invalid", "$.signature")
    if receipt.management_replaced is not None:
        raise DecodeError("params_invalid", "$.management_replaced")
    if receipt.reading is not None:
        raise DecodeError("params_invalid", "$.reading")
    if receipt.puk_replaced and not may_replace_puk:
        raise DecodeError("params_invalid", "$.puk_replaced")
    card.generation = max(card.generation or 0, receipt.generation)

"""Whether the card in an order's hands is the one: it proves so by the management key that it shares with the portal.

By mutual authentication (SP 800-73pt2-5, section 3.2.4): the portal draws a challenge, and tells the device the digest
of the answer alone; who tells the answer has had it from a card with the key. GUID and serial number any card can tell.

A card that did so when it got a key of its own has to ever after (``ManagedCard.mutual``): before it is told a PUK, and
before certificates or keys are sent for it. One that says later that it can't, or that it has its maker's key again, is
taken for another. What can't prove itself is dealt with as before, and its page says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from portal.processes import order_rows
from portal.store.tables import ManagedCard
from protocol.errors import InlayError
from protocol.messages import ChangePuk, EncodeCard, ManagementAlgorithm, ManagementKey, UnblockPin

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.store.tables import Card, Order
    from protocol.messages import ManagementProof, Operation


async def asked_for(tx: AsyncSession, card: Card, operation: Operation) -> Operation:
    """An operation that is about to be ordered: one that tells a card its PUK has the card prove itself before."""
    if not isinstance(operation, ChangePuk | UnblockPin) or operation.puk != "escrow":
        return operation
    managed = await tx.get(ManagedCard, card.id)
    if card.driver != "piv" or managed is None or not managed.mutual or managed.key_algorithm is None:
        return operation
    key = ManagementKey(algorithm=ManagementAlgorithm(managed.key_algorithm), proves=True)
    return msgspec.structs.replace(operation, management=key)


def is_wanted(order: Order) -> bool:
    """Whether an order's card has to prove itself."""
    ordered = order_rows.parameters(order)
    management = ordered.management if isinstance(ordered, ChangePuk | EncodeCard | UnblockPin) else None
    return management is not None and management.proves


def is_missing(order: Order) -> bool:
    """Whether an order's card has to prove itself, and hasn't."""
    return is_wanted(order) and not order.proved


def check(order: Order) -> None:
    """See that what an order's card gets or has got went to the card.

    Raises:
        InlayError: ``card_not_proved``.
    """
    if is_missing(order):
        raise InlayError("card_not_proved")


def challenged(order: Order, proof: ManagementProof, generation: int) -> None:
    """Remember by what the card can prove itself now; the answer isn't kept."""
    digest = proof.expected_sha256
    order.card_challenge = (
        None
        if digest is None
        else {"number": proof.number, "generation": generation, "expected": digest.hex(), "taken": False}
    )


async def changing(tx: AsyncSession, order: Order) -> None:
    """A card that has proved itself is perhaps reset now: until the order has ended well it can't do so again."""
    ordered = order_rows.parameters(order)
    if isinstance(ordered, EncodeCard) and ordered.reset and order.proved:
        managed = await tx.get_one(ManagedCard, ordered.card, with_for_update=True)
        managed.mutual = False


def settle(managed: ManagedCard, order: Order) -> None:
    """The order has ended well: a card with a key of its own that was mutual with the portal has to be from now on."""
    if managed.key_generation > 0 and order.proved is not None:
        managed.mutual = True

"""PUKs of physical cards: each card gets its own when it is first encoded, which the portal keeps sealed.

Until then a card has its maker's, which the portal is set up with. A card may be torn out while it takes its own: until
an order has ended well the portal keeps both, and says so to the device (``Proceed.puk_unsure``).
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from portal.processes import management_keys, order_rows, tasks
from portal.store.tables import Process
from protocol import codec, jose
from protocol.messages import EncodeCard, PublicJwk

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Card, Order

_DIGITS: Final = 8
LENGTH: Final = "puk_length"
"""The process variable that tells how many digits a card's own PUK has; 8 where there is none."""


class NewPuk(NamedTuple):
    """What an order brings its card.

    Attributes:
        token: compact JWE to the order's ephemeral key; None: it keeps the PUK that it has.
        unsure: an earlier order may have given it this one.
    """

    token: str | None = None
    unsure: bool = False


async def new_puk(context: Context, tx: AsyncSession, order: Order) -> NewPuk:
    """The PUK that an order gives its card, for the device alone.

    Noted before it leaves; an order that comes after one that ended badly brings the same again.
    """
    ordered = order_rows.parameters(order)
    if not isinstance(ordered, EncodeCard) or not ordered.new_puk:
        return NewPuk()
    managed = await management_keys.managed_card(context, tx, ordered.card)
    label = tasks.puk_label(ordered.card)
    if managed.pending_puk is None:
        process = await tx.get_one(Process, order.process_id)
        drawn = _draw(process.variables.get(LENGTH, _DIGITS))
        try:
            managed.pending_puk, managed.changed_at = context.keys.seal(drawn, label), context.clock()
        finally:
            drawn[:] = bytes(len(drawn))
    recipient = codec.convert(order.encryption_key, PublicJwk, malformed="internal")
    puk = context.keys.unseal(managed.pending_puk, label)
    try:
        return NewPuk(jose.encrypt(puk, recipient), managed.puk_unsure)
    finally:
        puk[:] = bytes(len(puk))


async def settle(context: Context, tx: AsyncSession, card: Card, *, replaced: bool) -> None:
    """The receipt has told which PUK the card has: the one that was sent, or as before because it takes none."""
    managed = await management_keys.managed_card(context, tx, card.id)
    if replaced:
        card.sealed_puk = managed.pending_puk
    managed.pending_puk, managed.puk_unsure, managed.changed_at = None, False, context.clock()


def _draw(length: int) -> bytearray:
    return bytearray(ord("0") + secrets.randbelow(10) for _ in range(length))

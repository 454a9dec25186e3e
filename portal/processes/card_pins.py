"""PINs that the portal draws for cards: random, not trivial, and kept sealed until they are delivered."""

from __future__ import annotations

import secrets
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from portal.processes import card_letters, cards, order_rows
from portal.store.tables import Process
from protocol import codec, jose
from protocol.messages import EncodeCard, PublicJwk

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order

_DIGITS: Final = 10


def draw(length: int) -> bytearray:
    """A PIN of this many digits (6 to 8), each that isn't trivial as likely as any other; the caller wipes it."""
    while True:
        pin = bytearray(ord("0") + secrets.randbelow(_DIGITS) for _ in range(length))
        if not trivial(pin):
            return pin


def trivial(pin: bytes | bytearray) -> bool:
    """Whether a PIN is one that is tried first.

    A digit twice in a row, three that count up or down, or a piece that is repeated to the end.
    """
    steps = [after - before for before, after in pairwise(pin)]
    runs = pairwise(steps)
    periods = range(1, len(pin) // 2 + 1)
    return (
        0 in steps
        or any(pair in ((1, 1), (-1, -1)) for pair in runs)
        or any(pin[size:] == pin[:-size] for size in periods)
    )


async def given(context: Context, tx: AsyncSession, order: Order) -> str | None:
    """The PIN that an order gives its card, for the device alone; None where it gives none.

    Where a letter or a mail will tell it, it is stored sealed before it leaves; else it is nowhere but on the card.

    Returns:
        Compact JWE to the order's ephemeral key.
    """
    ordered = order_rows.parameters(order)
    if not isinstance(ordered, EncodeCard) or ordered.pin.kind != "given":
        return None
    process = await tx.get_one(Process, order.process_id)
    pin = draw(process.variables["pin_length"])
    try:
        if process.variables["pin_delivery"] in (cards.PRINT, cards.EMAIL):
            await card_letters.keep_pin(context, tx, ordered.card, process, pin)
        return jose.encrypt(bytes(pin), codec.convert(order.encryption_key, PublicJwk, malformed="internal"))
    finally:
        pin[:] = bytes(len(pin))

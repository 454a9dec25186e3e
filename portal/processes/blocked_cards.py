"""Whether PIN and PUK of a card in a reader are both blocked: the portal knows it from how its orders have ended.

Nothing unblocks such a card. Its next encoding is one from the beginning, for which the card is reset
(``EncodeCard.reset``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from portal.model.states import OrderState
from portal.store.tables import Order

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.store.tables import Card

_BY_PIN_OR_PUK: Final = frozenset(
    {"authenticate", "change_pin", "change_puk", "encode_card", "sign", "unblock_pin", "verify_pin"}
)
"""Operations that end well with a card alone that has taken its PIN or PUK."""
_SAID: Final = frozenset({"card_both_blocked", "card_pin_blocked", "card_puk_blocked"})
_NOT_SO: Final = "card_puk_other"
"""What a card says that takes another PUK: that one has tries left."""


async def is_blocked(tx: AsyncSession, card: Card) -> bool:
    """Whether the card has said so since it took a PIN or PUK last: of both at once, or of one and then the other."""
    query = (
        select(Order.state, Order.error, Order.operation)
        .where(Order.card_id == card.id, Order.ended.is_not(None))
        .order_by(Order.ended)
    )
    said: set[str] = set()
    for state, error, operation in await tx.execute(query):
        code = None if error is None else error["error"]
        if code == _NOT_SO or (state == OrderState.FINISHED and operation in _BY_PIN_OR_PUK):
            said.clear()
        elif code in _SAID:
            said.add(code)
    return "card_both_blocked" in said or {"card_pin_blocked", "card_puk_blocked"} <= said

"""Earlier encryption keys on a card by the driver *pkcs11*: beside its current ones, each with its certificate.

A token has no fixed places: what it takes, it tells by refusing the rest. Those keys stay in the portal's archive, and
the order goes on. A key that an order before has put there is used again, and isn't imported a second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.handlers.card_writing import import_key
from agent.token_keys import RETIRED
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.order_ports import OrderContext
    from agent.returning_token import ReturningToken
    from protocol.messages import EncodeCard, IssuedCertificate

_NOT_TAKEN: Final = frozenset(
    {"card_import_missing", "card_algorithm_missing", "card_full", "card_feature_missing", "pkcs11_failed"}
)


async def clear(context: OrderContext, card: ReturningToken, ordered: EncodeCard) -> None:
    """Remove the keys of whoever had the card before: with its new PIN they would be the next one's."""
    if ordered.clear_retired:
        await context.guard(context.record("clear retired", card.clear(RETIRED)))
    coming = {key.slot for key in ordered.keys}
    for slot in ordered.clear:
        if slot not in coming:
            await context.guard(context.record(f"clear {slot}", card.clear((slot,))))


async def put_on(
    context: OrderContext, card: ReturningToken, coming: Sequence[IssuedCertificate]
) -> list[IssuedCertificate]:
    """Put as many of these keys on the card as it takes, each with its certificate; those that it has taken."""
    return [item for item in coming if await _taken(context, card, item)]


async def _taken(context: OrderContext, card: ReturningToken, item: IssuedCertificate) -> bool:
    try:
        if not await context.guard(card.adopt(item.slot, item.certificate)):
            importing = import_key(context, card, item.slot, item.key or "")
            await context.guard(context.record(f"import {item.slot}", importing))
        writing = card.write_certificate(item.slot, item.certificate)
        await context.guard(context.record(f"write {item.slot}", writing))
    except InlayError as error:
        if error.code not in _NOT_TAKEN:
            raise
    else:
        return True
    await context.guard(card.forget(item.slot))
    return False

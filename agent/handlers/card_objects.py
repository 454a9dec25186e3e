"""Data objects that an order writes on a PIV card as they are, or deletes, before its keys.

Which may be written stands in ``protocol.data_objects``: an order that names another one is none, whoever signed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.pcsc import piv_objects
from protocol import data_objects
from protocol.errors import DecodeError, InlayError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.order_ports import OrderContext
    from agent.pcsc.connection import CardConnection
    from agent.returning_card import ReturningCard
    from protocol.messages import DataObject, EncodeCard


def check(ordered: EncodeCard) -> None:
    """Check that an order names objects that it may write, each once, and no more than fit.

    Raises:
        DecodeError: ``order_malformed``.
    """
    tags = [item.tag for item in ordered.objects]
    written = [item.content for item in ordered.objects if item.content is not None]
    fits = len(written) <= data_objects.MOST and sum(map(len, written)) <= data_objects.MOST_BYTES
    if not fits or len(set(tags)) != len(tags) or any(map(data_objects.keeper, tags)):
        raise DecodeError("order_malformed", "$.parameters.objects")


def consequences(ordered: EncodeCard) -> list[str]:
    """What consent says of them."""
    written = [data_objects.name(item.tag) for item in ordered.objects if item.content is not None]
    gone = [data_objects.name(item.tag) for item in ordered.objects if item.content is None]
    lines = [f"Data of the portal's is written on the card: {', '.join(written)}."] if written else []
    if gone:
        lines.append(f"Data of whoever had the card before is removed: {', '.join(gone)}.")
    return lines


async def write(context: OrderContext, card: ReturningCard, objects: Sequence[DataObject]) -> None:
    """Write them, and read back what can be read; delete those that have no content.

    Raises:
        InlayError: ``card_object_place``, ``card_object_differs``; ``card_full``, ``card_object_lost``,
            ``card_management_needed``, ``card_refused``, ``pcsc_…``; why the order ended.
    """
    for item in objects:
        working = card.run(_put, int(item.tag, 16), item.content)
        try:
            await context.guard(context.record(f"object {item.tag}", working))
        except InlayError as error:
            if not piv_objects.has_no_place(error):
                raise
            raise InlayError("card_object_place", object=item.tag) from None


# --- in the card's thread


def _put(card: CardConnection, tag: int, content: bytes | None) -> None:
    if content is None:
        piv_objects.delete(card, tag)
        return
    piv_objects.write(card, tag, content)
    try:
        same = piv_objects.read(card, tag) == content
    except InlayError as error:
        if error.code != "card_pin_needed":  # of some the standard has the PIN typed before (table 3)
            raise
        return
    if not same:
        raise InlayError("card_object_differs", object=f"{tag:06X}")

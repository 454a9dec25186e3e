"""From a code to an order that has begun: claim it at the portal, check what comes, write it down.

Nothing is shown and nothing is made here; what is refused has left no trace but in the log.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from agent.consent import check_binding, new_number
from agent.device import describe
from agent.journal import OrderRef
from agent.orders import OrderKeys
from protocol import jose
from protocol.errors import InlayError
from protocol.messages import CardGeneration, Claim, ClaimParams, ClaimResult, Order, StorageLevel
from protocol.orders import Expected, verify_order

if TYPE_CHECKING:
    from agent.channel import Channel
    from agent.journal import Journal
    from agent.order_ports import Submission


class Claimed(NamedTuple):
    """An order that has begun.

    Attributes:
        ref: which.
        order: the verified order.
        keys: its keys.
        number: the number to show, with binding ``number``.
    """

    ref: OrderRef
    order: Order
    keys: OrderKeys
    number: str | None


async def claim(
    channel: Channel,
    submission: Submission,
    device_key: jose.SigningKey,
    levels: list[StorageLevel],
    cards: list[CardGeneration],
    journal: Journal,
) -> Claimed:
    """Claim a code, verify the order, and journal that it begins.

    Args:
        channel: an authenticated channel to the portal that the trust store names.
        submission: the code and how it came.
        device_key: signs the claim; the order must be made out to it.
        levels: at which this machine can keep keys.
        cards: what this portal may know of the cards it has ordered here.
        journal: where it is written.

    Raises:
        InlayError: what the portal refuses with, an ``order_…`` code, or ``binding_refused``.
        ChannelClosedError: the connection broke.
    """
    if not levels:
        raise InlayError("keystore_missing")
    nonce = jose.new_nonce()
    page_origin = None if submission.page is None else submission.page.origin
    asked = Claim(
        aud=channel.entry.portal,
        code=submission.code,
        nonce=nonce,
        portal_nonce=channel.portal_nonce,
        device_key=device_key.public,
        device=describe(),
        transport=submission.transport,
        storage=levels,
        origin=page_origin,
        cards=cards,
    )
    token = device_key.sign(jose.CLAIM, asked)
    result = await channel.call("claim", ClaimParams(claim=token), ClaimResult)
    if result.resumed:  # what had begun goes on by the journal, or is over
        raise InlayError("order_replayed")
    expected = Expected(
        portal=channel.entry.portal,
        origin=channel.entry.origin,
        page_origin=page_origin,
        device=device_key.thumbprint,
        nonce=nonce,
        portal_time=channel.portal_clock.now(),
    )
    order = verify_order(result.order, channel.key_set, expected)
    check_binding(order, submission.page)
    ref = OrderRef(channel.entry.portal, order.jti)
    ephemeral = jose.SigningKey.generate()
    await asyncio.to_thread(journal.begin, ref, result.order, ephemeral.to_pem())
    return Claimed(ref, order, OrderKeys(device_key, ephemeral), new_number(order))

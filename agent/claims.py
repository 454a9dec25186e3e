"""From a code to an order that has begun: claim it at the portal, check what comes, write it down.

Nothing is shown and nothing is made here; what is refused has left no trace but in the log. The claim is journalled
before it is sent: where its answer is lost the portal may have begun an order, so it is claimed again until it is
answered. The same device gets the same order.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from agent.consent import check_binding, new_number
from agent.device import describe
from agent.errors import error_data
from agent.journal import OpenClaim, OrderRef
from agent.order_exchange import OrderKeys
from protocol import jose
from protocol.errors import InlayError
from protocol.messages import (
    CardGeneration,
    Claim,
    ClaimParams,
    ClaimResult,
    Empty,
    Identifier,
    Message,
    MessageParams,
    Order,
    PublicJwk,
    StorageLevel,
    Undone,
)
from protocol.orders import Exchange, Expected, Side, verify_order

if TYPE_CHECKING:
    from agent.channel import Channel
    from agent.journal import Journal
    from agent.order_ports import Page

_LOG = logging.getLogger(__name__)


class _Named(Message, frozen=True, forbid_unknown_fields=False):
    """What names an order, whatever else is wrong with it."""

    jti: Identifier


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
    asked: OpenClaim,
    device_key: jose.SigningKey,
    levels: list[StorageLevel],
    cards: list[CardGeneration],
    journal: Journal,
    *,
    page: Page | None = None,
    bound: bool = True,
) -> Claimed:
    """Claim a code, verify the order, and journal that it begins.

    Args:
        channel: an authenticated channel to the portal that the trust store names.
        asked: the code and how it came.
        device_key: signs the claim; the order must be made out to it.
        levels: at which this machine can keep keys.
        cards: what this portal may know of the cards it has ordered here.
        journal: where it is written.
        page: the page that brought the code.
        bound: whether the order's binding has to be one that can be kept; not for an order that is only undone.

    Raises:
        InlayError: what the portal refuses with, an ``order_…`` code, or ``binding_refused``: the claim is closed;
            or ``timeout``: it is open.
        ChannelClosedError: the connection broke; the claim is open.
    """
    if not levels:
        raise InlayError("keystore_missing")
    nonce = jose.new_nonce()
    token = device_key.sign(jose.CLAIM, _message(channel, asked, device_key.public, levels, cards, nonce))
    await asyncio.to_thread(journal.open_claim, asked)
    try:
        result = await channel.call("claim", ClaimParams(claim=token), ClaimResult)
        try:
            order = _verified(channel, asked, result, device_key.thumbprint, nonce)
            if bound:
                check_binding(order, page)
        except InlayError as error:
            await _say_refused(channel, result, device_key, error)
            raise
        ref = OrderRef(channel.entry.portal, order.jti)
        ephemeral = jose.SigningKey.generate()
        await asyncio.to_thread(journal.begin, ref, result.order, ephemeral.to_pem(), asked)
    except InlayError as error:
        if error.code != "timeout":
            await asyncio.to_thread(journal.close_claim, asked)
        raise
    return Claimed(ref, order, OrderKeys(device_key, ephemeral), new_number(order))


def _message(
    channel: Channel,
    asked: OpenClaim,
    device_key: PublicJwk,
    levels: list[StorageLevel],
    cards: list[CardGeneration],
    nonce: str,
) -> Claim:
    return Claim(
        aud=channel.entry.portal,
        code=asked.code,
        nonce=nonce,
        portal_nonce=channel.portal_nonce,
        device_key=device_key,
        device=describe(),
        transport=asked.transport,
        storage=levels,
        origin=asked.origin,
        cards=cards,
    )


def _verified(channel: Channel, asked: OpenClaim, result: ClaimResult, device: str, nonce: str) -> Order:
    """The order that answers a claim, if it is one for this device and this claim."""
    if result.resumed:  # what had begun goes on by the journal, or is over
        raise InlayError("order_replayed")
    expected = Expected(
        portal=channel.entry.portal,
        origin=channel.entry.origin,
        page_origin=asked.origin,
        device=device,
        nonce=nonce,
        portal_time=channel.portal_clock.now(),
    )
    return verify_order(result.order, channel.key_set, expected)


async def _say_refused(
    channel: Channel, result: ClaimResult, device_key: jose.SigningKey, error: InlayError
) -> None:
    """Tell the portal that what it has begun isn't begun here, and why: nobody waits for it until its time is over.

    Nothing of the order is believed for it. The portal takes the message only as its own order's and signed by the
    device that claimed it; whatever else it is, the order is undone.

    Raises:
        InlayError: ``timeout``.
        ChannelClosedError: the connection broke. Either way the claim stays open, and the portal is asked again.
    """
    if result.resumed:
        return
    try:
        jti = jose.unverified_payload(result.order, jose.ORDER, _Named).jti
    except jose.TokenError:
        return  # no name to speak of it by
    undone = Exchange(jti, Side.AGENT, device_key, []).send(Undone(error=error_data(error)))
    try:
        await channel.call("message", MessageParams(message=undone), Empty)
    except InlayError as refused:
        if refused.code == "timeout":
            raise
        _LOG.info("order %s: the portal didn't take its refusal: %s", jti, refused.code)


async def is_open(journal: Journal, asked: OpenClaim) -> bool:
    """Whether a claim was sent and its answer isn't known."""
    return asked in await asyncio.to_thread(journal.open_claims)

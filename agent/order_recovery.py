"""After a restart: what the journal says was not at its end goes on, or is undone.

The PIN never survives a restart, so an order without a receipt can't be gone on with: it is undone here, and the
portal told. Where its point of no return was passed before the receipt, that is sent instead; where nobody knows what
the card has now, the person is told, too, by a notification. After the receipt only the portal knows how it ended: it
is asked. So it is for a claim whose answer is not known. No window is opened.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agent.channel import Channel, ChannelClosedError, open_channel
from agent.claims import is_open
from agent.order_exchange import FIRST_PAUSE, LAST_PAUSE, OrderKeys
from agent.order_ports import GoesForward
from agent.orders import OrderRun
from agent.quiet_window import QuietWindow
from protocol import jose
from protocol.errors import InlayError, from_wire
from protocol.messages import Order
from protocol.orders import Stage
from protocol.traces import describe

if TYPE_CHECKING:
    from agent.claims import Claimed
    from agent.journal import JournalledOrder, OpenClaim
    from agent.order_desk import OrderDesk, Tools
    from agent.order_ports import OrderHandler
    from agent.trust import TrustEntry

_LOG = logging.getLogger(__name__)


async def recover(desk: OrderDesk, tools: Tools, item: JournalledOrder) -> None:
    """Bring one order of the journal to its end.

    Args:
        desk: carries it out.
        tools: the desk's.
        item: the order as the journal has it.
    """
    journal = await asyncio.to_thread(tools.journal.get)
    # it was verified when it was begun, and has been sealed since
    order = jose.unverified_payload(item.token, jose.ORDER, Order)
    keys = OrderKeys(await asyncio.to_thread(tools.device.key), jose.SigningKey.from_pem(item.key))

    async def dial() -> Channel:
        entry = await asyncio.to_thread(tools.trust.find, item.ref.portal)
        return await open_channel(entry, tools.trust)

    run = OrderRun(item.ref, order, keys, journal, dial, window=QuietWindow(), position=item.position)
    handler = tools.handlers[type(order.parameters)]
    _LOG.info("order %s was left at %s, %s", item.ref.jti, item.position.stage, item.outcome)
    if item.position.stage is Stage.FINISHED:
        await desk.finish(run, handler)
        return
    if item.outcome == "open" and run.may_undo and await _go_forward(desk, tools, run, handler):
        return
    if item.outcome == "open" and run.may_undo:
        known = from_wire(item.error.error, item.error.fields) if item.error else None
        await desk.undo(run, handler, known or InlayError("order_interrupted"), tell=False)
    run.connect(None)
    if item.position.stage is Stage.RECEIPTED:
        await desk.carry_out(run, handler, _already_performed())
    else:
        await desk.tell(run)


async def _go_forward(desk: OrderDesk, tools: Tools, run: OrderRun, handler: OrderHandler) -> bool:
    """Bring an order to its end that may have passed its point of no return; whether it is there now."""
    if not isinstance(handler, GoesForward):
        return False
    journal = await asyncio.to_thread(tools.journal.get)
    steps = await asyncio.to_thread(journal.steps, run.ref)
    try:
        receipt = await handler.receipt_after(run.order, steps)
    except InlayError as unknown:  # neither done nor not done: portal and person are told so
        await desk.undo(run, handler, unknown, tell=False)
        run.connect(None)
        await tools.notifier.notify(unknown, tools.environment())
        await desk.tell(run)
        return True
    if receipt is None:
        return False
    run.connect(None)
    await desk.carry_out(run, handler, run.send(receipt))
    return True


async def undo_claim(desk: OrderDesk, tools: Tools, asked: OpenClaim) -> None:
    """Ask for what became of a claim until it is answered; an order that the portal has begun is undone.

    Args:
        desk: carries it out.
        tools: the desk's.
        asked: the claim as the journal has it.
    """
    answer = await _answer(desk, tools, asked)
    if answer is None:
        return
    entry, claimed, channel = answer
    journal = await asyncio.to_thread(tools.journal.get)

    async def dial() -> Channel:
        return await open_channel(entry, tools.trust)

    run = OrderRun(claimed.ref, claimed.order, claimed.keys, journal, dial, window=QuietWindow())
    run.connect(channel)
    handler = tools.handlers[type(claimed.order.parameters)]
    await desk.undo(run, handler, InlayError("order_interrupted"), tell=False)
    await desk.tell(run)


async def _answer(
    desk: OrderDesk, tools: Tools, asked: OpenClaim
) -> tuple[TrustEntry, Claimed, Channel] | None:
    """The order behind a claim, as soon as the portal answers; None when there is none."""
    journal = await asyncio.to_thread(tools.journal.get)
    pause = FIRST_PAUSE
    while True:
        try:
            entry = await asyncio.to_thread(tools.trust.find, asked.portal)
        except InlayError:  # trusted no more: nobody to ask
            await asyncio.to_thread(journal.close_claim, asked)
            return None
        try:
            return entry, *await desk.claim_once(entry, asked, bound=False)
        except (InlayError, ChannelClosedError, OSError) as cause:
            if not await is_open(journal, asked):
                _LOG.info("a claim at %s has begun nothing: %s", asked.portal, describe(cause))
                return None
        await asyncio.sleep(pause)
        pause = min(2 * pause, LAST_PAUSE)


async def _already_performed() -> None:
    return

"""After a restart: what the journal says was not at its end goes on, or is undone.

The PIN never survives a restart, so an order without a receipt can't be gone on with: it is undone here, and
the portal told. After the receipt only the portal knows how it ended: it is asked. No window is opened.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agent.channel import Channel, open_channel
from agent.orders import OrderKeys, OrderRun
from agent.quiet_window import QuietWindow
from protocol import jose
from protocol.errors import InlayError, from_wire
from protocol.messages import Order
from protocol.orders import Stage

if TYPE_CHECKING:
    from agent.journal import JournalledOrder
    from agent.order_desk import OrderDesk, Tools

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
    if item.outcome == "open" and run.may_undo:
        known = from_wire(item.error.error, item.error.fields) if item.error else None
        await desk.undo(run, handler, known or InlayError("order_interrupted"), tell=False)
    run.connect(None)
    if item.position.stage is Stage.RECEIPTED:
        await desk.carry_out(run, handler, _already_performed())
    else:
        await desk.tell(run)


async def _already_performed() -> None:
    return

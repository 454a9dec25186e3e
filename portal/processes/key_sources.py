"""Keys whose source is left to the card: from the archive where it takes keys from elsewhere, else made on it.

The device's requests tell: there is one for a key that the card has made, and none for one that it waits for. Nothing
of it is to be believed but that: an order that has to have the key in the archive doesn't leave it to the card.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from portal.encoding import plan as plans
from portal.processes import tasks
from protocol.messages import CreateVirtualCard, EncodeCard, KeySource

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.encoding.plan import Plan
    from portal.store.tables import Order
    from protocol.messages import Requests

T = TypeVar("T", bound=CreateVirtualCard | EncodeCard)


def settled_order(ordered: T, requests: Requests) -> T:
    """What was ordered, with the sources that the requests tell."""
    asked = {request.slot for request in requests.requests}
    keys = [
        msgspec.structs.replace(key, source=_source(key.slot in asked))
        if key.source is KeySource.IMPORT_IF_POSSIBLE
        else key
        for key in ordered.keys
    ]
    return msgspec.structs.replace(ordered, keys=keys)


def settled_plan(plan: Plan, requests: Requests) -> Plan:
    """A plan with the sources that the requests tell."""
    asked = {request.slot for request in requests.requests}
    found = tuple(
        msgspec.structs.replace(item, source=_source(item.slot in asked).value)
        if item.source == "import_if_possible"
        else item
        for item in plan.certificates
    )
    return msgspec.structs.replace(plan, certificates=found)


async def settle(tx: AsyncSession, order: Order, requests: Requests) -> None:
    """Keep with an order where its keys come from, and with its process, whose pages say so."""
    before = tasks.plan_of(order)
    after = settled_plan(before, requests)
    if after == before:
        return
    order.task = plans.stored(after)
    pairs = zip(before.certificates, after.certificates, strict=True)
    changed = {f"{now.template}_source": now.source for was, now in pairs if was.source != now.source}
    await tasks.set_variables(tx, order, changed)


def _source(made: bool) -> KeySource:
    return KeySource.GENERATE if made else KeySource.IMPORT

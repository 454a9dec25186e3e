"""What an order leaves to the card: where a key comes from, and which optional ones it takes.

The device's requests tell: there is one for a key that the card has made, and none for one that it waits for; optional
keys that it can't take are declined before they are sent, and those that it hasn't taken have no proof in the receipt.
Nothing of it is to be believed but that: what has to be is not left to the card.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from portal.encoding import plan as plans
from portal.processes import tasks
from protocol.errors import DecodeError
from protocol.messages import CreateVirtualCard, EncodeCard, KeySource

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.encoding.plan import Plan
    from portal.store.tables import Order
    from protocol.messages import Receipt, Requests

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
    """A plan with the sources that the requests tell, without the optional keys that they decline.

    Raises:
        DecodeError: ``params_invalid``: one is declined that isn't optional.
    """
    asked = {request.slot for request in requests.requests}
    declined = set(requests.declined)
    if not declined <= {item.slot for item in plan.certificates if item.optional}:
        raise DecodeError("params_invalid", "$.declined")
    found = tuple(
        msgspec.structs.replace(item, source=_source(item.slot in asked).value)
        if item.source == "import_if_possible"
        else item
        for item in plan.certificates
        if item.slot not in declined
    )
    return msgspec.structs.replace(plan, certificates=found)


async def settle(tx: AsyncSession, order: Order, requests: Requests) -> None:
    """Keep with an order where its keys come from, and with its process, whose pages say so.

    Raises:
        DecodeError: see `settled_plan`.
    """
    before = tasks.plan_of(order)
    after = settled_plan(before, requests)
    left = [item for item in before.certificates if item.source == "import_if_possible"]
    now = {item.slot: item.source for item in after.certificates}
    changed: dict[str, Any] = {f"{item.template}_source": now[item.slot] for item in left}
    await _keep(tx, order, before, after, changed)


async def settle_taken(tx: AsyncSession, order: Order, receipt: Receipt) -> None:
    """Leave out of an order's task the optional keys that the card hasn't taken: the receipt has no proof of them."""
    before, proved = tasks.plan_of(order), {proof.slot for proof in receipt.proofs}
    taken = tuple(item for item in before.certificates if not item.optional or item.slot in proved)
    after = msgspec.structs.replace(before, certificates=taken)
    await _keep(tx, order, before, after, {"earlier_on_card": len(after.recovered)})


async def _keep(tx: AsyncSession, order: Order, before: Plan, after: Plan, changed: dict[str, Any]) -> None:
    if after != before:
        order.task = plans.stored(after)
    await tasks.set_variables(tx, order, changed)


def _source(made: bool) -> KeySource:
    return KeySource.GENERATE if made else KeySource.IMPORT

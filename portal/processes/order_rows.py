"""Orders as rows: reading, moving along the state graph, and what a page may see of one.

Rows are read with a lock and carry a version (``version_id_col``): a change is a compare-and-swap, and of two that
exclude each other one wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from portal.events import DEADLINES, order_topic
from portal.model import states
from portal.model.states import OrderState
from portal.store.database import notify
from portal.store.tables import Device, Order
from protocol import codec
from protocol.errors import InlayError
from protocol.messages import (
    Binding,
    CreateVirtualCard,
    ErrorData,
    PageError,
    PageEvent,
    PublicJwk,
    Step,
)
from protocol.orders import Position, Stage

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


async def load(tx: AsyncSession, jti: str) -> Order:
    """An order, locked for this transaction.

    Raises:
        InlayError: ``order_unknown``.
    """
    order = (await tx.execute(select(Order).where(Order.jti == jti).with_for_update())).scalar_one_or_none()
    if order is None:
        raise InlayError("order_unknown")
    return order


def move(order: Order, target: OrderState, now: int) -> None:
    """Move an order along its graph.

    Raises:
        WrongState: it has no such transition: somebody else was first.
    """
    order.state = states.ORDER.check(OrderState(order.state), target)
    order.changed_at = now


def changed(tx: AsyncSession, order: Order) -> None:
    """Tell pages and connections, after the commit, that the order changed."""
    notify(tx, order_topic(order.jti))


def touch(tx: AsyncSession, order: Order, now: int) -> None:
    """The device was heard: its time to resume begins anew."""
    order.deadline_at = now + order.resume_within
    notify(tx, order_topic(order.jti), DEADLINES)


def parameters(order: Order) -> CreateVirtualCard:
    """The operation's parameters as signed."""
    return codec.convert(order.parameters, CreateVirtualCard, malformed="internal")


def position(order: Order) -> Position:
    """Where the portal's side of the exchange stands."""
    return Position(Stage(order.stage), order.sent, order.received)


def set_position(order: Order, value: Position) -> None:
    """Store where the portal's side of the exchange stands."""
    order.stage, order.sent, order.received = value.stage.value, value.sent, value.received


async def device_key(tx: AsyncSession, order: Order) -> PublicJwk:
    """The key of the device that claimed the order."""
    device = await tx.get_one(Device, order.device_jkt)
    return codec.convert(device.key, PublicJwk, malformed="internal")


def as_json(error: InlayError) -> dict[str, Any]:
    """An error as it is stored."""
    return {"error": error.code, "fields": dict(error.fields)}


def from_json(stored: dict[str, Any] | None) -> InlayError | None:
    """A stored error."""
    return None if stored is None else InlayError(stored["error"], **stored["fields"])


def error_data(order: Order) -> ErrorData | None:
    """Why the order was undone, for the device."""
    error = from_json(order.error)
    return None if error is None else ErrorData(error=error.code, fields=error.fields)


def page_error(error: InlayError | None) -> PageError | None:
    """An error as a page may show it: nothing of the machine that the table keeps from pages."""
    if error is None:
        return None
    shown = error if error.cause.page else InlayError("internal")
    return PageError(error=shown.code, happened=shown.happened, why=shown.why, next_step=shown.next_step)


def wants_number(order: Order) -> bool:
    """Whether the page has to ask for the number now."""
    return (
        order.state == OrderState.RUNNING
        and order.binding == Binding.NUMBER
        and order.stage == Stage.CONSENTED
        and order.number is not None
        and order.bound_at is None
    )


_PAGE_STATES: dict[OrderState, Any] = {
    OrderState.WAITING: "waiting",
    OrderState.RUNNING: "running",
    OrderState.FINISHING: "running",
    OrderState.FINISHED: "finished",
    OrderState.UNDOING: "undone",
    OrderState.UNDONE: "undone",
}


def page_event(order: Order) -> PageEvent:
    """Where the order stands, for the page that began it."""
    wanted = wants_number(order)
    return PageEvent(
        state=_PAGE_STATES[OrderState(order.state)],
        step=Step(order.shown_step) if order.shown_step else None,
        number_wanted=wanted,
        tries_left=order.tries_left if wanted else None,
        error=page_error(from_json(order.error)),
    )

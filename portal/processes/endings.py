"""How orders end: finished or undone, each won by compare-and-swap, and never silently.

Everything here runs in the caller's writing transaction, so that an order, its objects, its process and the audit log
change together or not at all. What an end means for the objects is the operation's (``portal.processes.operation``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from portal.events import DEADLINES
from portal.model import states
from portal.model.states import OrderState, ProcessState
from portal.processes import certificates, order_rows, outgoing
from portal.processes.operations.registry import operation_of
from portal.store import audit
from portal.store.database import notify
from portal.store.tables import KnownDevice, Order, Process
from protocol.errors import InlayError
from protocol.messages import ErrorData, Finished, Step, Undo
from protocol.orders import FINAL_STAGES, Side, Stage, next_stage

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context

DETAILS: Final = "details"
"""The process step an order ends at when it ends well."""
_BY_PERSON: Final = frozenset({"user_cancelled", "cancelled_at_portal"})


async def undo(context: Context, tx: AsyncSession, order: Order, error: InlayError, actor: str) -> None:
    """Undo an order: from here on nothing of it becomes valid.

    Raises:
        WrongState: it is finishing or has ended; whoever was first has won.
    """
    now = context.clock()
    waiting = order.state == OrderState.WAITING
    order_rows.move(order, OrderState.UNDONE if waiting else OrderState.UNDOING, now)
    order.error = order_rows.as_json(error)
    _forget_secrets(order)
    order.deadline_at = None if waiting else now + order.resume_within
    if not waiting:
        await _count(tx, order)
    await operation_of(order).undo(context, tx, order, actor)
    await _end_process(tx, order, error, actor, now)
    await _note(tx, order, "order.undone", actor, now, error=error.code)
    if not waiting and _may_say_undo(order):
        await outgoing.send(context, tx, order, Undo(error=ErrorData(error=error.code, fields=error.fields)))
    order_rows.changed(tx, order)
    notify(tx, DEADLINES)


async def accept(context: Context, tx: AsyncSession, order: Order) -> None:
    """The device's receipt is as it should be: the order has won, and is finished whatever comes.

    Raises:
        WrongState: it isn't running any more; whoever was first has won.
    """
    now = context.clock()
    order_rows.move(order, OrderState.FINISHING, now)
    await _count(tx, order)
    await _note(tx, order, "order.accepted", f"device:{order.device_jkt}", now)


async def settle(context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
    """Both sides have undone the order, or its time to resume is over.

    Raises:
        WrongState: it isn't being undone.
    """
    now = context.clock()
    order_rows.move(order, OrderState.UNDONE, now)
    order.deadline_at = None
    await _note(tx, order, "order.settled", actor, now)
    order_rows.changed(tx, order)
    notify(tx, DEADLINES)


async def finish(context: Context, tx: AsyncSession, order: Order) -> None:
    """Finish an order that has won: its objects, known device, process.

    Raises:
        WrongState: the order isn't finishing, or an object isn't in the state it must be in.
    """
    now, actor = context.clock(), f"device:{order.device_jkt}"
    await operation_of(order).finish(context, tx, order)
    await certificates.release_proved(tx, order.jti, actor, now)
    await _know_device(tx, order, now)
    order_rows.move(order, OrderState.FINISHED, now)
    order.shown_step, order.deadline_at = Step.FINISHED.value, None
    _forget_secrets(order)
    process = await tx.get_one(Process, order.process_id, with_for_update=True)
    moved = {"before": process.step, "after": DETAILS, "state": process.state}
    process.step, process.changed_at = DETAILS, now
    await _note(tx, order, "order.finished", actor, now)
    await _note_process(tx, process, "process.step", actor, now, **moved)
    await outgoing.send(context, tx, order, Finished())
    notify(tx, DEADLINES)


async def _end_process(tx: AsyncSession, order: Order, error: InlayError, actor: str, now: int) -> None:
    process = await tx.get_one(Process, order.process_id, with_for_update=True)
    if process.state != ProcessState.RUNNING:
        return
    target = ProcessState.CANCELLED if error.code in _BY_PERSON else ProcessState.FAILED
    process.state = states.PROCESS.check(ProcessState(process.state), target)
    process.error, process.changed_at = order_rows.as_json(error), now
    ended = {"before": ProcessState.RUNNING.value, "after": target.value, "error": error.code}
    await _note_process(tx, process, "process.state", actor, now, **ended)


async def _note(tx: AsyncSession, order: Order, action: str, actor: str, now: int, **details: str) -> None:
    await audit.record(tx, at=now, actor=actor, action=action, kind="order", object_id=order.jti, **details)


async def _note_process(
    tx: AsyncSession, process: Process, action: str, actor: str, now: int, **details: str
) -> None:
    await audit.record(
        tx, at=now, actor=actor, action=action, kind="process", object_id=process.id, **details
    )


async def _know_device(tx: AsyncSession, order: Order, now: int) -> None:
    device = order.device_jkt or ""
    if await tx.get(KnownDevice, (order.user_id, device)) is None:
        tx.add(KnownDevice(user_id=order.user_id, jkt=device, known_since=now))


async def _count(tx: AsyncSession, order: Order) -> None:
    """Number the end among those of its card's orders, of which one at a time is carried out."""
    if order.card_id is not None:
        last = await tx.scalar(select(func.max(Order.ended)).where(Order.card_id == order.card_id))
        order.ended = (last or 0) + 1


def _forget_secrets(order: Order) -> None:
    order.number = order.sealed_completion = order.challenges = None


def _may_say_undo(order: Order) -> bool:
    if order.stage in FINAL_STAGES:
        return False  # the device said so itself
    try:
        next_stage(Stage(order.stage), Side.PORTAL, "undo", certifies=order_rows.parameters(order).certifies)
    except InlayError:
        return False
    return True

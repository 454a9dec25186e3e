"""How orders end: finished or undone, each won by compare-and-swap, and never silently.

Everything here runs in the caller's writing transaction, so that an order, its card, its certificates, its process and
the audit log change together or not at all.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from portal.ca.authority import Reason
from portal.events import DEADLINES, REVOCATIONS
from portal.model import states
from portal.model.states import (
    CertificateState,
    OrderState,
    ProcessState,
    VirtualSmartCardState,
)
from portal.processes import order_rows, outgoing
from portal.store import audit
from portal.store.database import notify
from portal.store.tables import Card, Certificate, KnownDevice, ObjectRelation, Process, Revocation
from protocol.errors import InlayError
from protocol.messages import ErrorData, Finished, Step, Undo
from protocol.orders import FINAL_STAGES, Side, Stage, next_stage

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order

HAS_A: Final = "HAS_A"
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
    await _revoke_all(context, tx, order, actor)
    await _end_process(tx, order, error, now)
    await audit.record(
        tx, at=now, actor=actor, action="order.undone", kind="order", object_id=order.jti, error=error.code
    )
    if not waiting and _may_say_undo(order):
        await outgoing.send(context, tx, order, Undo(error=ErrorData(error=error.code, fields=error.fields)))
    order_rows.changed(tx, order)
    notify(tx, DEADLINES)


def settle(context: Context, tx: AsyncSession, order: Order) -> None:
    """Both sides have undone the order, or its time to resume is over.

    Raises:
        WrongState: it isn't being undone.
    """
    order_rows.move(order, OrderState.UNDONE, context.clock())
    order.deadline_at = None
    order_rows.changed(tx, order)
    notify(tx, DEADLINES)


async def finish(context: Context, tx: AsyncSession, order: Order) -> None:
    """Finish an order that has won: certificates valid, card active, relations, known device, process.

    Raises:
        WrongState: the order isn't finishing, or an object isn't in the state it must be in.
    """
    now = context.clock()
    actor = f"device:{order.device_jkt}"
    card = await tx.get_one(Card, order.card_id, with_for_update=True)
    for certificate in await certificates_of(tx, order.jti):
        certificate.state = states.CERTIFICATE.check(
            CertificateState(certificate.state), CertificateState.VALID
        )
        certificate.changed_at = now
        await relate(tx, "virtual_smart_card", card.id, HAS_A, "certificate", certificate.id, now)
        await audit.record(
            tx, at=now, actor=actor, action="certificate.valid", kind="certificate", object_id=certificate.id
        )
    card.state = states.VIRTUAL_SMART_CARD.check(
        VirtualSmartCardState(card.state), VirtualSmartCardState.ACTIVE
    )
    card.storage, card.changed_at = order.storage or card.storage, now
    await _know_device(tx, order, now)
    await audit.record(
        tx,
        at=now,
        actor=actor,
        action="card.active",
        kind="virtual_smart_card",
        object_id=card.id,
        order=order.jti,
    )
    order_rows.move(order, OrderState.FINISHED, now)
    order.shown_step, order.deadline_at = Step.FINISHED.value, None
    _forget_secrets(order)
    process = await tx.get_one(Process, order.process_id, with_for_update=True)
    process.step, process.changed_at = DETAILS, now
    await outgoing.send(context, tx, order, Finished())
    notify(tx, DEADLINES)


async def certificates_of(tx: AsyncSession, jti: str) -> list[Certificate]:
    """The certificates that were issued for an order, locked for this transaction."""
    query = select(Certificate).where(Certificate.order_jti == jti).order_by(Certificate.slot)
    return list(await tx.scalars(query.with_for_update()))


async def enqueue_revocation(
    tx: AsyncSession, certificate: Certificate, reason: Reason, actor: str, now: int
) -> None:
    """Have a certificate revoked: shown as Revoked only once the CA has confirmed it."""
    final = states.CERTIFICATE.final
    if CertificateState(certificate.state) in final or await tx.get(Revocation, certificate.id) is not None:
        return
    tx.add(
        Revocation(
            certificate_id=certificate.id, reason=reason.value, tries=0, next_try_at=now, created_at=now
        )
    )
    certificate.revocation_reason = reason.value
    await audit.record(
        tx,
        at=now,
        actor=actor,
        action="certificate.revocation_asked",
        kind="certificate",
        object_id=certificate.id,
        reason=reason.value,
    )
    notify(tx, REVOCATIONS)


async def relate(
    tx: AsyncSession, from_kind: str, from_id: str, relation: str, to_kind: str, to_id: str, now: int
) -> None:
    """Relate two objects."""
    tx.add(
        ObjectRelation(
            id=secrets.token_hex(16),
            from_kind=from_kind,
            from_id=from_id,
            relation=relation,
            to_kind=to_kind,
            to_id=to_id,
            created_at=now,
        )
    )
    await tx.flush()


async def _revoke_all(context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
    for certificate in await certificates_of(tx, order.jti):
        await enqueue_revocation(tx, certificate, Reason.CESSATION_OF_OPERATION, actor, context.clock())


async def _end_process(tx: AsyncSession, order: Order, error: InlayError, now: int) -> None:
    process = await tx.get_one(Process, order.process_id, with_for_update=True)
    if process.state != ProcessState.RUNNING:
        return
    target = ProcessState.CANCELLED if error.code in _BY_PERSON else ProcessState.FAILED
    process.state = states.PROCESS.check(ProcessState(process.state), target)
    process.error, process.changed_at = order_rows.as_json(error), now


async def _know_device(tx: AsyncSession, order: Order, now: int) -> None:
    device = order.device_jkt or ""
    if await tx.get(KnownDevice, (order.user_id, device)) is None:
        tx.add(KnownDevice(user_id=order.user_id, jkt=device, known_since=now))


def _forget_secrets(order: Order) -> None:
    order.number = order.sealed_completion = order.challenges = None


def _may_say_undo(order: Order) -> bool:
    if order.stage in FINAL_STAGES:
        return False  # the device said so itself
    try:
        next_stage(Stage(order.stage), Side.PORTAL, "undo")
    except InlayError:
        return False
    return True

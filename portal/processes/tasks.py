"""Card Production and Card Operation tasks: what becomes of a task's certificates, their relations and variables.

The rules, for every certificate that a task requests:

* it is stored in state Issued as soon as it is received from the CA, before it leaves for the card (``issuing``);
* when the whole task has succeeded it goes to the start state of its graph; after an error it stays Issued, and is
  revoked from there;
* ``CreateObjectRelation`` decides whether it is related to the card: at once (*always*), when the task has succeeded
  (*success*), or not (*never*). Production: to the card that was made. Operation: to the card that the process
  variables hold when it is carried out; *always* without one is an error, and nothing is issued;
* its descriptor is put into the process variable that its description names, also when the task ends in an error.

A *recovered* certificate was stored when it was first issued: it isn't stored again, its state stays, no variable
receives it; it may be related to the card.

Everything here runs in the caller's writing transaction, and may be done again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from portal.ca.authority import Reason
from portal.encoding import plan as plans
from portal.encoding.plan import Plan, PlannedCertificate, TaskKind
from portal.model.graphs import Why
from portal.model.objects import CARD_KINDS, CoreObject, ObjectKind
from portal.processes import certificates
from portal.store import objects, relations
from portal.store.database import model_of
from portal.store.tables import Card, Certificate, Process
from portal.store.transitions import StateChange, change_state, is_final
from protocol.errors import InlayError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order

CARD: Final = "card"
"""The process variable that holds the card of a process; a production puts the card that it makes there."""


class Written(NamedTuple):
    """A certificate and the key of the card that it is written to.

    Attributes:
        slot: the key's reference.
        certificate: its row; of a recovered one ``slot`` is another card's.
        recovered: it was issued before, by another task.
    """

    slot: str
    certificate: Certificate
    recovered: bool


PHYSICAL: Final = frozenset({ObjectKind.CARD.value, ObjectKind.TEMPORARY_CARD.value})
"""Kinds of cards that come from a maker, with the PUK that it gives them."""


def plan_of(order: Order) -> Plan:
    """The plan of the task that an order carries out.

    Raises:
        InlayError: ``internal``: it carries out none.
    """
    if order.task is None:
        raise InlayError("internal")
    return plans.restored(order.task)


async def check(tx: AsyncSession, order: Order) -> None:
    """Check, before anything is issued, that all relations can be made.

    Raises:
        InlayError: ``relation_unknown``; ``relation_without_card``: ``CreateObjectRelation=always``, and there is no
            card.
    """
    plan = plan_of(order)
    known = model_of(tx).relations
    for item in plan.certificates:
        if item.relation_type is not None and item.relation_type not in known:
            raise InlayError("relation_unknown", relation=item.relation_type)
    wanted = any(item.relation == "always" for item in plan.certificates)
    if wanted and plan.kind is TaskKind.OPERATION and await _card_of(tx, order, plan) is None:
        raise InlayError("relation_without_card")


def puk_label(card_id: str) -> bytes:
    """Associated data of a card's sealed PUK."""
    return b"inlay-puk\0" + card_id.encode()


async def produced(tx: AsyncSession, order: Order, card: Card) -> None:
    """A Card Production task has made its card object."""
    await set_variables(tx, order, {CARD: objects.describe(card)})


async def issued(tx: AsyncSession, order: Order, certificate: Certificate, now: int, *, late: bool) -> None:
    """A certificate was stored as Issued; ``late``: its task has ended already, in an error."""
    planned = plan_of(order).of_slot(certificate.slot)
    if planned is None:
        raise InlayError("internal")
    if planned.relation == "always":
        await _relate(tx, order, planned, certificate, now)
    if late and planned.return_variable is not None:
        await set_variables(tx, order, {planned.return_variable: objects.describe(certificate)})


async def delivered(tx: AsyncSession, order: Order, now: int) -> None:
    """Certificates and keys are about to leave for the card."""
    for planned in plan_of(order).recovered:
        if planned.relation == "always":
            recovered = await tx.get_one(Certificate, planned.recovers)
            await _relate(tx, order, planned, recovered, now)


async def written(tx: AsyncSession, order: Order) -> list[Written]:
    """What is written on the card, in the order of the plan; locked for this transaction."""
    requested = {item.slot: item for item in await certificates.of_order(tx, order.jti)}
    found = []
    for planned in plan_of(order).certificates:
        if planned.recovers is not None:
            row = await tx.get_one(Certificate, planned.recovers, with_for_update=True)
            found.append(Written(planned.slot, row, recovered=True))
        elif planned.slot in requested:
            found.append(Written(planned.slot, requested[planned.slot], recovered=False))
    return found


async def succeed(context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
    """The whole task has succeeded: start states, relations, variables. What was revoked meanwhile stays revoked.

    Raises:
        WrongState: a certificate is neither Issued nor at its end.
    """
    plan, now = plan_of(order), context.clock()
    for item in await written(tx, order):
        planned = plan.of_slot(item.slot)
        if not item.recovered and not is_final(tx, item.certificate):
            await _to_start_state(tx, item.certificate, actor, now)
        if planned is not None and planned.relation != "never":
            await _relate(tx, order, planned, item.certificate, now)
    await _return_fields(tx, order, plan)


async def fail(context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
    """The task has ended in an error: its certificates stay Issued, and are revoked; recovered ones are untouched."""
    plan = plan_of(order)
    for certificate in await certificates.of_order(tx, order.jti):
        await certificates.enqueue_revocation(
            tx, certificate, Reason.CESSATION_OF_OPERATION, actor, context.clock()
        )
    await _return_fields(tx, order, plan)


async def _to_start_state(tx: AsyncSession, certificate: Certificate, actor: str, now: int) -> None:
    start = model_of(tx).certificates.graph(certificate.profile).valid
    await change_state(tx, certificate, start, StateChange(actor, now, Why.TASK_SUCCEEDED))


async def _return_fields(tx: AsyncSession, order: Order, plan: Plan) -> None:
    rows = {item.slot: item for item in await certificates.of_order(tx, order.jti)}
    values: dict[str, Any] = dict.fromkeys(plan.clear)
    for planned in plan.requested:
        if planned.return_variable is not None and planned.slot in rows:
            values[planned.return_variable] = objects.describe(rows[planned.slot])
    await set_variables(tx, order, values)


async def set_variables(tx: AsyncSession, order: Order, values: dict[str, Any]) -> None:
    """Set variables of the process that an order belongs to."""
    if not values:
        return
    process = await tx.get_one(Process, order.process_id, with_for_update=True)
    process.variables = {**process.variables, **values}


async def _relate(
    tx: AsyncSession, order: Order, planned: PlannedCertificate, certificate: Certificate, now: int
) -> None:
    """Relate a certificate to the task's card, where there is one; once."""
    card = await _card_of(tx, order, plan_of(order))
    if card is not None:
        made = objects.describe(certificate)
        await relations.relate(tx, card, made, planned.relation_type, actor="portal", at=now)


async def _card_of(tx: AsyncSession, order: Order, plan: Plan) -> CoreObject | None:
    """The card of a task: what it has made, or what the process variables hold now."""
    if plan.kind is TaskKind.PRODUCTION:
        card = await tx.get(Card, order.card_id) if order.card_id else None
        return None if card is None else objects.describe(card)
    process = await tx.get_one(Process, order.process_id)
    held = process.variables.get(CARD)
    return held if isinstance(held, CoreObject) and held.kind in CARD_KINDS else None

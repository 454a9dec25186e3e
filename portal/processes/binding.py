"""Binding an order to the browser session that began it (design principle 3): the number, or the completion secret."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from portal.errors import WrongState
from portal.model.states import OrderState
from portal.processes import (
    card_letters,
    card_pins,
    card_proof,
    endings,
    management_keys,
    order_rows,
    outgoing,
    puks,
)
from portal.processes.codes import digest
from portal.store import audit
from portal.views import NumberResult
from protocol.errors import InlayError
from protocol.messages import Binding, Proceed, Step
from protocol.orders import Stage

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order


async def enter_number(context: Context, jti: str, session_id: str, actor: str, number: str) -> NumberResult:
    """Compare a number that was typed into a page.

    Raises:
        WrongState: no number is wanted.
        InlayError: ``binding_refused``: another session's order; ``number_wrong``: that was the last try.
    """
    async with context.database.write() as tx:
        order = await order_rows.load(tx, jti)
        _check_session(order, session_id)
        if not order_rows.wants_number(order):
            raise WrongState("order", order.state, ("waiting for the number",))
        if secrets.compare_digest((order.number or "").encode(), number.encode()):
            await _bind(context, tx, order, actor)
            return NumberResult(accepted=True, tries_left=order.tries_left)
        order.tries_left -= 1
        if order.tries_left > 0:
            order_rows.changed(tx, order)
            return NumberResult(accepted=False, tries_left=order.tries_left)
        await endings.undo(context, tx, order, InlayError("number_wrong"), actor)
    raise InlayError("number_wrong")


async def complete(context: Context, jti: str, session_id: str, actor: str, completion: str) -> None:
    """Compare a completion secret that the agent gave to a page. Handed over twice it is taken once.

    Raises:
        WrongState: none is wanted.
        InlayError: ``binding_refused``: another session's order, or a wrong secret, which undoes the order.
    """
    async with context.database.write() as tx:
        order = await order_rows.load(tx, jti)
        _check_session(order, session_id)
        if order.binding != Binding.COMPLETION or order.completion_hash is None:
            raise WrongState("order", order.state, ("waiting for the completion secret",))
        fits = secrets.compare_digest(order.completion_hash, digest(completion))
        if fits and order.bound_at is not None:
            return
        if order.state != OrderState.RUNNING:
            raise WrongState("order", order.state, (OrderState.RUNNING.value,))
        if fits:
            await _bind(context, tx, order, actor)
            return
        await endings.undo(context, tx, order, InlayError("binding_refused"), actor)
    raise InlayError("binding_refused")


async def proceed_if_bound(context: Context, tx: AsyncSession, order: Order) -> None:
    """Let the device go on once the person has agreed there and the session is bound here, in either order."""
    bound = order.bound_at is not None or order.binding == Binding.NONE
    if bound and order.stage == Stage.CONSENTED:
        order.shown_step = _first_step(order).value
        try:
            await order_rows.check_person(tx, order)
            await order_rows.check_card(tx, order)
            # what the card gets waits with the PUK that it has: else who has no card knew what the next one is given
            waits = card_proof.is_missing(order)
            puk = await puks.known_puk(context, tx, order)
            keys = [] if waits else await management_keys.new_keys(context, tx, order)
            own = puks.NewPuk() if waits else await puks.new_puk(context, tx, order)
            pin = await card_pins.given(context, tx, order)
            await card_letters.before_new_pin(context, tx, order)
        except InlayError as error:
            await endings.undo(context, tx, order, error, "portal")
        else:
            secrets = Proceed(
                puk=puk, management_keys=keys, pin=pin, new_puk=own.token, puk_unsure=own.unsure
            )
            await outgoing.send(context, tx, order, secrets)


def _first_step(order: Order) -> Step:
    """What comes next: a physical card has to be put in first."""
    ordered = order_rows.parameters(order)
    return Step.CARD if getattr(ordered, "driver", "virtual") != "virtual" else Step.KEYS


async def _bind(context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
    now = context.clock()
    order.bound_at = now
    order.number = order.sealed_completion = None
    await proceed_if_bound(context, tx, order)
    await audit.record(
        tx,
        at=now,
        actor=actor,
        action="order.bound",
        kind="order",
        object_id=order.jti,
        by=order.binding or "",
    )
    order_rows.changed(tx, order)


def _check_session(order: Order, session_id: str) -> None:
    if not secrets.compare_digest(order.session_id, session_id):
        raise InlayError("binding_refused")

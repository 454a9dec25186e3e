"""Orders as rows: reading, moving along the state graph, and what a page may see of one.

Rows are read with a lock and carry a version (``version_id_col``): a change is a compare-and-swap, and of two that
exclude each other one wins.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import select

from portal.events import DEADLINES, order_topic
from portal.model import states
from portal.model.states import CardState, OrderState, UserState
from portal.store.database import notify
from portal.store.tables import Card, Device, Order, Process, User
from protocol import codec, half_done
from protocol.errors import InlayError
from protocol.messages import (
    Binding,
    EncodeCard,
    ErrorData,
    KeyCount,
    Message,
    Operation,
    PageError,
    PageEvent,
    Progress,
    PublicJwk,
    Step,
    plain,
)
from protocol.orders import Exchange, Position, Side, Stage

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from protocol import jose

NUMBER_TRIES: Final = 3
"""How often a wrong number may be typed into the page."""

AS_ORDERED: Final = "as_ordered"
"""Process variable: id, state and holder of the process's card when its order was made."""

P = TypeVar("P", bound=Message)


class _Parameters(Message, frozen=True):
    """Holds what may be of several types."""

    parameters: Operation


async def load(tx: AsyncSession, jti: str) -> Order:
    """An order, locked for this transaction.

    Raises:
        InlayError: ``order_unknown``.
    """
    order = (await tx.execute(select(Order).where(Order.jti == jti).with_for_update())).scalar_one_or_none()
    if order is None:
        raise InlayError("order_unknown")
    return order


async def check_person(tx: AsyncSession, order: Order) -> None:
    """Check, before something is made or given out for an order, that its person still may have it.

    An administrator who locks an account ends its log-in sessions; its device is connected all the same. With an
    operator's order there are two who must be active: the operator, and who is going to have the card. A card is
    blocked whatever became of its holder.

    Raises:
        InlayError: ``user_not_active``; ``holder_not_active``: the other one isn't.
    """
    user = await tx.get_one(User, order.user_id, populate_existing=True)
    if user.state != UserState.ACTIVE:
        raise InlayError("user_not_active", state=user.state)
    who = await holder(tx, order)
    if order.operation != "block_card" and who.id != user.id and who.state != UserState.ACTIVE:
        raise InlayError("holder_not_active", state=who.state)


async def check_card(tx: AsyncSession, order: Order) -> None:
    """Check, before a secret of a card is given out for an order, that the card is still as it was when it was ordered.

    An order may have waited for its number since the card was taken back, given to somebody else, or locked. And of two
    that waited at the same time one is carried out. The card stays locked for this transaction.

    Raises:
        InlayError: ``card_changed``; ``card_worked_on``: another order of it has been let on.
    """
    card = await _card_of_holder(tx, order)
    if card is None:
        return
    state = (await tx.get_one(Process, order.process_id)).variables[AS_ORDERED][1]
    # a card that another order has left half done since is what encoding anew is for
    left = card.state == CardState.FAILED and order.operation == "encode_card"
    if card.state != state and not left:
        raise InlayError("card_changed")
    others = select(Order.jti).where(
        Order.card_id == card.id,
        Order.jti != order.jti,
        Order.state.in_((OrderState.RUNNING.value, OrderState.FINISHING.value)),
        Order.stage.not_in((Stage.BEGUN.value, Stage.CONSENTED.value)),
    )
    if (await tx.scalars(others.limit(1))).first() is not None:
        raise InlayError("card_worked_on")


async def encoded_since(tx: AsyncSession, order: Order) -> bool:
    """Whether another order has encoded an order's card since, or is just doing it."""
    let_on = Order.stage.not_in((Stage.BEGUN.value, Stage.CONSENTED.value))
    running = Order.state.in_((OrderState.RUNNING.value, OrderState.FINISHING.value)) & let_on
    later = (Order.created_at > order.created_at) | (Order.changed_at > order.changed_at)
    query = select(Order.jti).where(
        Order.card_id == order.card_id,
        Order.jti != order.jti,
        Order.operation == "encode_card",
        running | ((Order.state == OrderState.FINISHED.value) & later),
    )
    return (await tx.scalars(query.limit(1))).first() is not None


async def check_holder(tx: AsyncSession, order: Order) -> None:
    """Check that an order's card wasn't given to somebody else meanwhile.

    Raises:
        InlayError: ``card_changed``.
    """
    await _card_of_holder(tx, order)


async def _card_of_holder(tx: AsyncSession, order: Order) -> Card | None:
    """The order's card, locked; None where it has none yet, or its process is about another or of an old version."""
    known = (await tx.get_one(Process, order.process_id)).variables.get(AS_ORDERED)
    if known is None or known[0] != order.card_id:
        return None
    card = await tx.get_one(Card, known[0], with_for_update=True, populate_existing=True)
    if card.owner_id != known[2]:
        raise InlayError("card_changed")
    return card


async def holder(tx: AsyncSession, order: Order) -> User:
    """For whom an order's certificates and keys are: whom its process is about, else who began it."""
    process = await tx.get_one(Process, order.process_id)
    return await tx.get_one(User, process.subject_id or order.user_id, populate_existing=True)


async def holder_id(tx: AsyncSession, order: Order) -> str:
    """The account's id for certificates: the order's own, and for another person's card that person's address."""
    who = await holder(tx, order)
    told: str = order.account["user_id"] if who.id == order.user_id else who.email
    return told


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


def parameters(order: Order) -> Operation:
    """The operation's parameters as signed."""
    return codec.convert({"parameters": order.parameters}, _Parameters, malformed="internal").parameters


def parameters_as(order: Order, type_: type[P]) -> P:
    """The parameters of an order whose operation is known.

    Raises:
        InlayError: ``internal``: it is another operation's.
    """
    value = parameters(order)
    if not isinstance(value, type_):
        raise InlayError("internal")
    return value


def new(
    process: Process, user: User, session_id: str, operation: Operation, *, resume_within: int, now: int
) -> Order:
    """An order that waits to be claimed.

    Args:
        process: the process that begins it; its variable ``user_id`` names the account.
        user: whom it is for.
        session_id: the browser session that begins it, and gets its result.
        operation: what is ordered.
        resume_within: seconds after which both sides undo without the other.
        now: time.
    """
    parameters = plain(operation)
    return Order(
        jti=secrets.token_hex(16),
        process_id=process.id,
        user_id=user.id,
        session_id=session_id,
        operation=parameters["operation"],
        parameters=parameters,
        account={"id": user.id, "name": user.name, "user_id": process.variables["user_id"]},
        resume_within=resume_within,
        state=states.ORDER.start.value,
        link_code_expires_at=0,
        typed_code_expires_at=0,
        tries_left=NUMBER_TRIES,
        stage=Stage.BEGUN.value,
        sent=0,
        received=0,
        created_at=now,
        changed_at=now,
    )


def position(order: Order) -> Position:
    """Where the portal's side of the exchange stands."""
    return Position(Stage(order.stage), order.sent, order.received)


def exchange(order: Order, key: jose.SigningKey, peer: PublicJwk) -> Exchange:
    """The portal's side of the exchange, where it stands."""
    certifies = parameters(order).certifies
    return Exchange(order.jti, Side.PORTAL, key, [peer], position(order), certifies=certifies)


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


def page_error(error: InlayError | None, order: Order | None) -> PageError | None:
    """An error as a page may show it: nothing of the machine that the table keeps from pages.

    Args:
        error: why something ended.
        order: that ended by it, if it was one.
    """
    if error is None:
        return None
    shown = error if error.cause.page else InlayError("internal")
    says_so = error.code in half_done.AS_IT_WAS or error.code == half_done.CODE
    changed = order is not None and not says_so and _leaves_half_done(order)
    next_step = half_done.next_step(shown) if changed else shown.next_step
    return PageError(error=shown.code, happened=shown.happened, why=shown.why, next_step=next_step)


def _leaves_half_done(order: Order) -> bool:
    """Whether an order that doesn't end well leaves its card half done: it was being changed, and can't be put back."""
    if order.changing_at is None:
        return False
    ordered = parameters(order)
    return isinstance(ordered, EncodeCard) and ordered.driver != "virtual"


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


def show(order: Order, progress: Progress) -> None:
    """Keep how far a device says that it has come, for the page."""
    key = progress.key
    order.shown_step = progress.step.value if key is None else f"{progress.step.value} {key.number} {key.of}"


def page_event(order: Order) -> PageEvent:
    """Where the order stands, for the page that began it."""
    wanted = wants_number(order)
    step, *count = (order.shown_step or "").split(" ")
    return PageEvent(
        state=_PAGE_STATES[OrderState(order.state)],
        step=Step(step) if step else None,
        key=KeyCount(number=int(count[0]), of=int(count[1])) if count else None,
        number_wanted=wanted,
        tries_left=order.tries_left if wanted else None,
        error=page_error(from_json(order.error), order),
    )

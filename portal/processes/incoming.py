"""Messages of a device: stored before they are acknowledged, then carried out one after the other.

What was stored but not carried out when the portal stopped is carried out when it starts again: each message's work can
be repeated.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from functools import partial
from typing import TYPE_CHECKING, Final, assert_never
from weakref import WeakValueDictionary

from sqlalchemy import select

from portal.errors import WrongState
from portal.keys import KeysUnavailableError
from portal.model.states import OrderState
from portal.processes import (
    binding,
    card_identity,
    card_proof,
    card_proved,
    endings,
    management_keys,
    order_rows,
)
from portal.processes.operations import physical_card
from portal.processes.operations.registry import operation_of
from portal.store.tables import IncomingMessage
from protocol import codec, jose
from protocol.errors import DecodeError, InlayError, from_wire
from protocol.messages import (
    AGENT_MESSAGES,
    Binding,
    CardProved,
    Changing,
    Consented,
    Envelope,
    IdentityQuestion,
    ManagementQuestion,
    Progress,
    Receipt,
    Requests,
    Resume,
    ResumeResult,
    Step,
    Undone,
    plain,
)
from protocol.messages import (
    OrderState as WireState,
)
from protocol.orders import Stage
from protocol.traces import describe

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.issuing import Issuing
    from portal.store.tables import Order

_LOG = logging.getLogger(__name__)
_KEYS_AGAIN: Final = 6.0
"""Seconds until a message is tried again that waits for the portal's keys: a little more than a token is left alone."""
MAX_MESSAGES: Final = 96
"""Of a device for one order; an order that goes well has about a dozen."""
AgentBody = (
    Consented
    | ManagementQuestion
    | CardProved
    | IdentityQuestion
    | Changing
    | Requests
    | Receipt
    | Progress
    | Undone
)


class Incoming:
    """Takes and carries out the messages of devices."""

    def __init__(self, context: Context, issuing: Issuing) -> None:
        self._context = context
        self._issuing = issuing
        # a lock lives as long as somebody holds it or waits for it
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._later: dict[str, asyncio.TimerHandle] = {}

    async def take(self, jti: str, token: str) -> None:
        """Verify a message and store it. Sent again, it is acknowledged again and not carried out again.

        Raises:
            InlayError: what ``protocol.orders.Exchange.receive`` raises, or ``rate_limited``: it is one too many;
                the order is undone then.
        """
        try:
            async with self._context.database.write() as tx:
                await self._store(tx, jti, token)
        except InlayError as error:
            if error.code != "order_unknown":
                await self._undo(jti, error)
            raise

    def carry_out(self, jti: str) -> None:
        """Carry out, in the background, what is stored and not carried out."""
        if (waiting := self._later.pop(jti, None)) is not None:
            waiting.cancel()
        task = asyncio.create_task(self.carry_out_now(jti), name=f"order {jti}")
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, jti))

    async def carry_out_now(self, jti: str) -> None:
        """Carry out what is stored and not carried out, in its order; one at a time for each order."""
        lock = self._locks.setdefault(jti, asyncio.Lock())
        async with lock:
            while (message := await self._next(jti)) is not None:
                await self._carry_out(jti, message)

    async def unfinished(self) -> list[str]:
        """Orders with messages that were stored and not carried out."""
        query = select(IncomingMessage.jti).where(IncomingMessage.handled_at.is_(None)).distinct()
        async with self._context.database.read() as tx:
            return list(await tx.scalars(query))

    async def resume(self, token: str, portal_nonce: str, jti: str | None) -> tuple[str, int, ResumeResult]:
        """Take an order up again.

        Args:
            token: JWS of ``Resume`` by the device key.
            portal_nonce: the nonce this connection was given.
            jti: the order this connection has claimed, if any.

        Returns:
            The order's id, the highest number its device has taken, and what the device gets.

        Raises:
            InlayError: ``order_unknown``, ``message_signature_invalid``, ``order_wrong_audience``,
                ``order_wrong_nonce``, ``params_invalid``.
        """
        try:
            named = jose.unverified_payload(token, jose.RESUME, Resume).jti
        except jose.TokenError as error:
            raise _token_error(error) from None
        if jti not in (None, named):
            raise InlayError("order_unknown")
        async with self._context.database.write() as tx:
            order = await order_rows.load(tx, named)
            if order.device_jkt is None:
                raise InlayError("order_unknown")
            try:
                resume = jose.verify(token, jose.RESUME, [await order_rows.device_key(tx, order)], Resume)
            except jose.TokenError as error:
                raise _token_error(error) from None
            if resume.aud != self._context.portal:
                raise InlayError("order_wrong_audience")
            if not secrets.compare_digest(resume.portal_nonce, portal_nonce):
                raise InlayError("order_wrong_nonce")
            await self._resumed(tx, order, resume)
            result = ResumeResult(
                state=WireState(order.state), received=order.received, error=order_rows.error_data(order)
            )
            return order.jti, resume.received, result

    async def stop(self) -> None:
        """Stop what is under way; it goes on at the next start."""
        for handle in self._later.values():
            handle.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _resumed(self, tx: AsyncSession, order: Order, resume: Resume) -> None:
        """Both sides know now where the other stands.

        A device that has undone an order that runs here says why in its message ``undone``, which it sends next:
        undone for a cause that nobody knows yet, the order would be shown so on the page. Until then it has no more
        time than it had.
        """
        if order.state == OrderState.UNDOING and resume.outcome == "undone":
            await endings.settle(self._context, tx, order, f"device:{order.device_jkt}")
        if order.state == OrderState.RUNNING and resume.outcome != "undone":
            order_rows.touch(tx, order, self._context.clock())

    async def _store(self, tx: AsyncSession, jti: str, token: str) -> None:
        order = await order_rows.load(tx, jti)
        if await self._seen(tx, order, token):
            return
        if order.received >= MAX_MESSAGES:
            raise InlayError("rate_limited")
        now = self._context.clock()
        peer = await order_rows.device_key(tx, order)
        key = self._context.keys.order_keys()[0]
        exchange = order_rows.exchange(order, key, peer)
        body = exchange.receive(token)
        order_rows.set_position(order, exchange.position)
        quiet = isinstance(body, Progress)
        if isinstance(body, Progress) and order.state == OrderState.RUNNING:
            order_rows.show(order, body)
        tx.add(
            IncomingMessage(
                jti=jti, seq=order.received, token=token, created_at=now, handled_at=now if quiet else None
            )
        )
        if order.state == OrderState.RUNNING:
            order_rows.touch(tx, order, now)

    async def _seen(self, tx: AsyncSession, order: Order, token: str) -> bool:
        """Whether exactly this message was stored before: its acknowledgement got lost."""
        query = select(IncomingMessage.seq).where(
            IncomingMessage.jti == order.jti, IncomingMessage.token == token
        )
        return (await tx.execute(query)).first() is not None

    async def _next(self, jti: str) -> IncomingMessage | None:
        query = select(IncomingMessage).where(
            IncomingMessage.jti == jti, IncomingMessage.handled_at.is_(None)
        )
        async with self._context.database.read() as tx:
            return (await tx.execute(query.order_by(IncomingMessage.seq).limit(1))).scalar_one_or_none()

    async def _carry_out(self, jti: str, message: IncomingMessage) -> None:
        try:
            await self._act(jti, _body(message.token))
        except KeysUnavailableError:
            raise  # nothing can be said to the device either: the message stays stored and is tried again
        except InlayError as error:
            await self._undo(jti, error)
        except Exception as cause:
            _LOG.error("order %s: not foreseen: %s", jti, describe(cause))
            if not await self._undo(jti, InlayError("internal")):
                raise  # decided already: the message stays stored, so that the end is carried on later
        async with self._context.database.write() as tx:
            row = await tx.get_one(IncomingMessage, (jti, message.seq))
            row.handled_at = self._context.clock()

    async def _act(self, jti: str, body: AgentBody) -> None:
        match body:
            case Consented():
                await self._consented(jti, body)
            case CardProved():
                await card_proved.take(self._context, jti, body)
            case ManagementQuestion():
                await management_keys.answer(self._context, jti, body)
            case IdentityQuestion():
                await card_identity.answer(self._context, jti, body)
            case Changing():
                await self._changing(jti)
            case Requests():
                await self._issuing.certify(jti, body)
            case Receipt():
                await self._receipt(jti, body)
            case Undone():
                await self._undone(jti, body)
            case Progress():
                pass
            case _:
                assert_never(body)

    async def _consented(self, jti: str, body: Consented) -> None:
        async with self._context.database.write() as tx:
            order = await order_rows.load(tx, jti)
            if order.state != OrderState.RUNNING or order.stage != Stage.CONSENTED:
                return
            operation_of(order).check_consent(order, body)
            if (order.binding == Binding.NUMBER) != (body.number is not None):
                raise DecodeError("params_invalid", "$.number")
            if not jose.is_point(body.encryption_key):
                raise DecodeError("params_invalid", "$.encryption_key")
            order.encryption_key = plain(body.encryption_key)
            order.storage, order.number = body.storage, body.number
            order.shown_step = Step.BINDING.value
            await binding.proceed_if_bound(self._context, tx, order)
            order_rows.changed(tx, order)

    async def _changing(self, jti: str) -> None:
        """Note that a card is being changed; one whose order was undone meanwhile is half done from now on, too.

        A device that was away may say so when another one has encoded the card since. It changes nothing before it has
        heard that its order was undone, so the card is what the other one made it.
        """
        async with self._context.database.write() as tx:
            order = await order_rows.load(tx, jti)
            if order.changing_at is not None:
                return
            order.changing_at = self._context.clock()
            await card_proof.changing(tx, order)
            undone = order.state in (OrderState.UNDOING, OrderState.UNDONE)
            if undone and not await order_rows.encoded_since(tx, order):
                await operation_of(order).undo(self._context, tx, order, f"device:{order.device_jkt}")
            order_rows.changed(tx, order)

    async def _receipt(self, jti: str, body: Receipt) -> None:
        async with self._context.database.write() as tx:
            order = await order_rows.load(tx, jti)
            if order.state == OrderState.RUNNING:
                await operation_of(order).check_receipt(self._context, tx, order, body)
                await endings.accept(self._context, tx, order)
        await self.finish(jti)

    async def finish(self, jti: str) -> None:
        """Finish an order that has won, if it has; what is on hold until the proof is released first."""
        await self._issuing.release_proved(jti)
        async with self._context.database.write() as tx:
            order = await order_rows.load(tx, jti)
            if order.state == OrderState.FINISHING:
                await endings.finish(self._context, tx, order)

    async def _undone(self, jti: str, body: Undone) -> None:
        async with self._context.database.write() as tx:
            order = await order_rows.load(tx, jti)
            if order.state == OrderState.RUNNING:
                error = from_wire(body.error.error, body.error.fields)
                if body.unchanged and physical_card.may_be_unchanged(order):
                    order.changing_at = None
                await endings.undo(self._context, tx, order, error, f"device:{order.device_jkt}")
            if order.state == OrderState.UNDOING:
                await endings.settle(self._context, tx, order, f"device:{order.device_jkt}")

    async def _undo(self, jti: str, error: InlayError) -> bool:
        """Undo an order; False when how it ends was decided before."""
        async with self._context.database.write() as tx:
            order = await order_rows.load(tx, jti)
            try:
                await endings.undo(self._context, tx, order, error, "portal")
            except WrongState as late:
                _LOG.warning("order %s is %s already; not undone for %s", jti, late.state, error.code)
                return False
        return True

    def _done(self, jti: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        failure = None if task.cancelled() else task.exception()
        if isinstance(failure, KeysUnavailableError):
            _LOG.warning("%s waits for the portal's keys (%s)", task.get_name(), failure.reason)
            self._later[jti] = asyncio.get_running_loop().call_later(_KEYS_AGAIN, self.carry_out, jti)
        elif failure is not None:
            # the message stays stored: it is tried again at the next message, resume or start
            _LOG.error("%s could not be carried on: %s", task.get_name(), describe(failure))


def _body(token: str) -> AgentBody:
    """The body of a message that was verified when it was stored."""
    envelope = jose.unverified_payload(token, jose.MESSAGE, Envelope)
    body = codec.decode(bytes(envelope.body), AGENT_MESSAGES[envelope.type], malformed="params_invalid")
    if not isinstance(body, AgentBody):
        raise InlayError("message_unexpected")
    return body


def _token_error(error: jose.TokenError) -> InlayError:
    return error.as_error(
        signature="message_signature_invalid", algorithm="message_signature_invalid", payload="params_invalid"
    )

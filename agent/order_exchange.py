"""What portal and agent say to each other in one order, over as many connections as it takes.

Whatever is sent or received is on disk first (``agent.journal``). When the connection breaks, the agent dials
again with growing pauses and resumes; after ``resume_within`` without the portal the order is undone here and
the portal is told at the next contact. Once the receipt was sent only the portal's own signed word ends the
order, ``finished`` or ``undo``: until then the agent asks.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from agent.channel import Channel, ChannelClosedError
from agent.errors import CardAsItWas, error_data
from agent.given_up import give_up
from protocol import jose
from protocol.errors import InlayError, from_wire
from protocol.messages import (
    Empty,
    Message,
    MessageParams,
    Order,
    OrderState,
    PublicJwk,
    Resume,
    ResumeParams,
    ResumeResult,
    Undo,
    Undone,
)
from protocol.orders import FINAL_STAGES, Exchange, Position, Side, Stage
from protocol.traces import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.journal import Journal, OrderRef


_LOG = logging.getLogger(__name__)

FIRST_PAUSE, LAST_PAUSE = 0.2, 300.0
"""Seconds between attempts to reach the portal, doubled each time."""

_PORTAL_DECIDES: Final = frozenset({Stage.RECEIPTED, Stage.FINISHED})

T = TypeVar("T")
M = TypeVar("M", bound=Message)


class OrderKeys(NamedTuple):
    """The keys of one order.

    Attributes:
        device: signs what the agent says.
        ephemeral: what the portal's secrets are encrypted to.
    """

    device: jose.SigningKey
    ephemeral: jose.SigningKey


class OrderExchange:
    """The exchange of one order.

    Attributes:
        ref: which.
        order: the verified order.
    """

    def __init__(
        self,
        ref: OrderRef,
        order: Order,
        keys: OrderKeys,
        journal: Journal,
        dial: Callable[[], Awaitable[Channel]],
        position: Position | None = None,
    ) -> None:
        """Prepare; `connect` begins.

        Args:
            ref: which order.
            order: the verified order.
            keys: its keys.
            journal: where it has begun.
            dial: opens an authenticated channel to the order's portal.
            position: where the journal has it, after a restart.
        """
        self.ref = ref
        self.order = order
        self._keys = keys
        self._journal = journal
        self._dial = dial
        self._exchange = self._new_exchange([], position)
        self._changing = asyncio.Lock()
        self._inbox: collections.deque[Message] = collections.deque()
        self._came = asyncio.Event()
        self._outgoing = asyncio.Event()
        self._delivered = 0
        self._delivery = asyncio.Condition()
        self._interruption: asyncio.Future[InlayError] = asyncio.get_running_loop().create_future()
        self._heard = time.monotonic()
        self._connection: asyncio.Task[None] | None = None

    # --- what is said and heard

    @property
    def stage(self) -> Stage:
        """How far the order has come."""
        return self._exchange.position.stage

    @property
    def may_undo(self) -> bool:
        """Whether this side may still undo by itself."""
        return self.stage not in _PORTAL_DECIDES

    async def send(self, body: Message) -> None:
        """Sign a message and write it to the journal; it leaves as soon as there is a connection."""
        self._raise_interruption()
        await asyncio.shield(asyncio.ensure_future(self._send(body)))

    async def delivered(self) -> None:
        """Wait until the portal has everything that was sent."""
        async with self._delivery:
            await self._delivery.wait_for(lambda: self._delivered >= self._exchange.position.sent)

    async def receive(self, type_: type[M]) -> M:
        """Wait for the portal's next message.

        Raises:
            InlayError: the order was interrupted, or the portal was silent for ``resume_within``.
        """
        seconds = self.order.resume_within if self.may_undo else None
        try:
            async with asyncio.timeout(seconds):
                await self._unless_interrupted(self._came.wait())
        except TimeoutError:
            raise InlayError("timeout", seconds=self.order.resume_within) from None
        body = self._inbox.popleft()  # who stops waiting in this moment leaves it for whoever waits next
        if not self._inbox:
            self._came.clear()
        if not isinstance(body, type_):  # the table of stages leaves one type only
            raise InlayError("message_unexpected")
        return body

    async def say_undone(self, error: InlayError) -> None:
        """Write the ``undone`` that the portal gets at the next contact; once."""
        if self.stage in FINAL_STAGES:
            return
        undone = Undone(error=error_data(error), unchanged=isinstance(error, CardAsItWas))
        await asyncio.shield(asyncio.ensure_future(self._send(undone)))

    # --- its begin and end

    def connect(self, channel: Channel | None) -> None:
        """Begin to talk: over an open channel, or one that is dialled and resumed first."""
        if channel is not None:
            self._trust_keys_of(channel)
        self._connection = asyncio.create_task(self._keep_connected(channel))

    async def close(self) -> None:
        """Stop talking."""
        if self._connection is not None:
            self._connection.cancel()
            await asyncio.wait({self._connection})
        if not self._interruption.done():
            self._interruption.cancel()

    # --- the exchange

    def _trust_keys_of(self, channel: Channel) -> None:
        """From now on the portal's messages are verified by the keys that may sign now."""
        keys = [item.key for item in channel.key_set.order_keys]
        position = self._exchange.position
        self._exchange = self._new_exchange(keys, position)

    def _new_exchange(self, peer_keys: list[PublicJwk], position: Position | None) -> Exchange:
        certifies = self.order.parameters.certifies
        return Exchange(self.ref.jti, Side.AGENT, self._keys.device, peer_keys, position, certifies=certifies)

    async def _send(self, body: Message) -> None:
        async with self._changing:
            if not isinstance(body, Undone):
                self._raise_interruption()  # nothing is awaited from here to the new position
            before = self._exchange.position
            token = self._exchange.send(body)
            position = self._exchange.position
            try:
                await asyncio.to_thread(self._journal.store_sent, self.ref, position, position.sent, token)
            except (OSError, sqlite3.Error):
                self._exchange.position = before  # the memory never runs ahead of the journal
                raise
            if not self.may_undo and self._interruption.done():
                # given up while the receipt was being written: the receipt is out, and the portal decides
                self._interruption = asyncio.get_running_loop().create_future()
        self._outgoing.set()

    async def _take(self, token: str) -> None:
        """Verify a message, write that it was taken, and pass it on."""
        async with self._changing:
            before = self._exchange.position
            body = self._exchange.receive(token)
            error = body.error if isinstance(body, Undo) else None
            try:
                await asyncio.to_thread(
                    self._journal.store_received, self.ref, self._exchange.position, error
                )
            except (OSError, sqlite3.Error):
                self._exchange.position = before  # the portal sends it again after the next resume
                raise
        self._heard = time.monotonic()
        if isinstance(body, Undo):
            self._interrupt(from_wire(body.error.error, body.error.fields))
        else:
            self._pass_on(body)

    def _pass_on(self, body: Message) -> None:
        self._inbox.append(body)
        self._came.set()

    def _interrupt(self, error: InlayError) -> None:
        if not self._interruption.done():
            self._interruption.set_result(error)

    def _give_up(self, error: InlayError) -> None:
        """End the order from this side, where this side may."""
        if self.may_undo:
            self._interrupt(error)
        else:
            _LOG.warning("order %s: %s; the portal decides, asking again", self.ref.jti, error.code)

    def _raise_interruption(self) -> None:
        if self._interruption.done():
            raise self._interruption.result()

    async def _unless_interrupted(self, work: Awaitable[T]) -> T:
        task = asyncio.ensure_future(work)
        either: list[asyncio.Future[Any]] = [task, self._interruption]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._interruption.done():
                raise self._interruption.result()
            return await task
        finally:
            await give_up(task)

    # --- the connection

    async def _keep_connected(self, channel: Channel | None) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                channel = channel or await self._resume()
                before = self._heard
                await self._talk(channel)
                if self._heard > before:
                    pause = FIRST_PAUSE
            except (InlayError, ChannelClosedError) as error:
                _LOG.info("order %s: not connected: %s", self.ref.jti, getattr(error, "code", "closed"))
            except (OSError, sqlite3.Error) as error:  # a full disk: the journal may take it later
                _LOG.error("order %s: %s", self.ref.jti, describe(error))
            finally:
                if channel is not None:
                    await channel.close()
            channel = None
            left = self._heard + self.order.resume_within - time.monotonic()
            if left <= 0:
                self._give_up(InlayError("order_undone"))
            await asyncio.sleep(min(pause, left) if left > 0 else pause)
            pause = min(2 * pause, LAST_PAUSE)

    async def _resume(self) -> Channel:
        """Dial, and tell the portal where this side stands."""
        channel = await self._dial()
        try:
            position = self._exchange.position
            resume = Resume(
                aud=self.ref.portal,
                jti=self.ref.jti,
                portal_nonce=channel.portal_nonce,
                received=position.received,
                outcome="undone" if position.stage is Stage.UNDONE else "running",
            )
            token = self._keys.device.sign(jose.RESUME, resume)
            try:
                result = await channel.call("resume", ResumeParams(resume=token), ResumeResult)
            except InlayError as error:
                await self._resume_refused(error)
                raise
            self._trust_keys_of(channel)
            self._delivered = result.received
            await self._heard_of_portal(result)
        except BaseException:
            await channel.close()
            raise
        return channel

    async def _resume_refused(self, error: InlayError) -> None:
        self._give_up(error)
        if error.code == "order_unknown" and self.stage is Stage.UNDONE:
            async with self._delivery:  # it has forgotten the order: there is nobody to tell
                self._delivered = self._exchange.position.sent
                self._delivery.notify_all()

    async def _heard_of_portal(self, result: ResumeResult) -> None:
        self._heard = time.monotonic()
        await asyncio.to_thread(self._journal.touch, self.ref)
        if result.state in (OrderState.UNDOING, OrderState.UNDONE):
            # not signed: enough to stop while this side may stop by itself, never afterwards
            known = result.error
            self._give_up(from_wire(known.error, known.fields) if known else InlayError("order_undone"))
        async with self._delivery:
            self._delivery.notify_all()

    async def _talk(self, channel: Channel) -> None:
        """Send and take until the connection ends."""
        tasks = [
            asyncio.create_task(self._send_all(channel)),
            asyncio.create_task(self._take_all(channel)),
            asyncio.create_task(channel.wait_closed()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_all(self, channel: Channel) -> None:
        while True:
            self._outgoing.clear()
            for seq, token in await asyncio.to_thread(self._journal.outbox, self.ref, self._delivered):
                try:
                    await channel.call("message", MessageParams(message=token), Empty)
                except InlayError as error:
                    self._give_up(error)
                    raise
                self._heard = time.monotonic()
                async with self._delivery:
                    self._delivered = max(self._delivered, seq)
                    self._delivery.notify_all()
            await self._outgoing.wait()

    async def _take_all(self, channel: Channel) -> None:
        while True:
            id_, token = await channel.incoming.get()
            try:
                # written and passed on as one: the end of the connection must not come between
                await asyncio.shield(asyncio.ensure_future(self._take(token)))
            except InlayError as error:
                self._give_up(error)
                await channel.refuse(id_, error)
                raise
            await channel.confirm(id_)

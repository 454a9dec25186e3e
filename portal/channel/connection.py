"""One connection of an agent: hello, authentication, claim or resume, and then one order's messages both ways.

Incoming messages are on disk before they are acknowledged; outgoing ones come from the outbox, one after the other,
each acknowledged before the next is sent. An order has one connection: a newer one ends the older.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, assert_never

from portal.events import order_topic
from portal.processes import outgoing
from protocol import jose
from protocol.errors import DecodeError, InlayError
from protocol.messages import (
    AuthenticateParams,
    AuthenticateResult,
    ChannelHelloResult,
    ChannelProof,
    ClaimParams,
    Empty,
    HelloParams,
    Message,
    MessageParams,
    ResumeParams,
)
from protocol.session import Failure, Notification, Request, Response, Role, Session, State, choose_version
from protocol.traces import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from portal.key_sets import KeySets
    from portal.processes.claims import Claims
    from portal.processes.context import Context
    from portal.processes.incoming import Incoming

_LOG = logging.getLogger(__name__)
FIRST_FRAME_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 120.0
"""How long a connection without an order may stay; one with an order is watched by pings."""
ANSWER_SECONDS: Final = 30.0
_MAX_FAILED_CLAIMS: Final = 5


class ChannelParts:
    """What connections need of the portal."""

    def __init__(self, context: Context, claims: Claims, incoming: Incoming, key_sets: KeySets) -> None:
        self.context = context
        self.claims = claims
        self.incoming = incoming
        self.key_sets = key_sets
        self._carrying: dict[str, Connection] = {}
        self._endings: set[asyncio.Task[None]] = set()

    def carry(self, jti: str, connection: Connection) -> None:
        """Note which connection carries an order, and end the one that did before."""
        before = self._carrying.get(jti)
        if before is not None and before is not connection:
            self.end(before)
        self._carrying[jti] = connection

    def drop(self, jti: str, connection: Connection) -> None:
        """A connection has ended."""
        if self._carrying.get(jti) is connection:
            del self._carrying[jti]

    def end(self, connection: Connection) -> None:
        """End a connection from outside."""
        task = asyncio.create_task(connection.end())
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)


class Connection:
    """The portal's end of one connection. Frames come in by ``run`` and go out by ``send``; no socket is known here.

    Args:
        parts: of the portal.
        address: where the connection comes from.
        send: sends a frame.
        end: closes the socket.
    """

    def __init__(
        self,
        parts: ChannelParts,
        address: str,
        send: Callable[[bytes], Awaitable[None]],
        end: Callable[[], Coroutine[None, None, None]],
    ) -> None:
        self._parts = parts
        self._address = address
        self._send = send
        self.end = end
        self._session = Session(Role.CHANNEL_PORTAL)
        self._portal_nonce = jose.new_nonce()
        self._failed_claims = 0
        self._claimed: str | None = None
        self._jti: str | None = None
        self._taken = 0
        self._pump: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[None]] = {}

    async def run(self, receive: Callable[[], Awaitable[bytes | str | None]]) -> None:
        """Serve the connection until it ends.

        Args:
            receive: the next frame, None at the end.
        """
        try:
            while (data := await self._patiently(receive)) is not None and await self._take(data):
                self._start_pump()
        finally:
            self._session.close()
            if self._jti is not None:
                self._parts.drop(self._jti, self)
            if self._pump is not None:
                self._pump.cancel()
                await asyncio.gather(self._pump, return_exceptions=True)

    async def _patiently(self, receive: Callable[[], Awaitable[bytes | str | None]]) -> bytes | str | None:
        try:
            async with asyncio.timeout(self._patience()):
                return await receive()
        except TimeoutError:
            return None

    def _start_pump(self) -> None:
        if self._pump is None and self._jti is not None:
            self._parts.carry(self._jti, self)
            self._pump = asyncio.create_task(self._send_outbox(self._jti), name=f"outbox {self._jti}")
            self._pump.add_done_callback(self._pump_ended)

    def _pump_ended(self, pump: asyncio.Task[None]) -> None:
        """A device that doesn't acknowledge, or a socket that is gone: it resumes on another connection."""
        if not pump.cancelled():
            failure = pump.exception()
            if failure is not None and not isinstance(failure, TimeoutError | ConnectionError):
                _LOG.error("%s ended: %s", pump.get_name(), describe(failure))
            self._parts.end(self)

    def _patience(self) -> float | None:
        if self._session.state is State.NEW:
            return FIRST_FRAME_SECONDS
        return IDLE_SECONDS if self._jti is None else None

    async def _take(self, data: bytes | str) -> bool:
        """Take a frame; False ends the connection."""
        try:
            event = self._session.receive(data)
        except InlayError as error:
            await self._send(self._session.refuse(None, error))
            return False
        match event:
            case Request():
                return await self._answer(event)
            case Response():
                self._acknowledged(event.id)
                return True
            case Failure() | Notification():
                # a message of ours was refused: the order is over at the device
                return False
            case _:
                assert_never(event)

    async def _answer(self, request: Request) -> bool:
        try:
            result = await self._call(request)
        except DecodeError as error:
            await self._send(self._session.refuse(request.id, error))
            return False
        except InlayError as error:
            await self._send(self._session.refuse(request.id, error))
            self._failed_claims += 1
            return request.method == "claim" and self._failed_claims < _MAX_FAILED_CLAIMS
        except Exception as cause:
            _LOG.error("%s failed: %s", request.method, describe(cause))  # without its text
            await self._send(self._session.refuse(request.id, InlayError("internal")))
            return False
        await self._send(self._session.respond(request.id, result))
        if request.method in ("message", "resume") and self._jti is not None:
            self._parts.incoming.carry_out(self._jti)
        return True

    async def _call(self, request: Request) -> Message:
        params = request.params
        match params:
            case HelloParams():
                version = choose_version(params.versions)
                return ChannelHelloResult(version=version, key_set=await self._parts.key_sets.token())
            case AuthenticateParams():
                return self._authenticated(params)
            case ClaimParams():
                claimed = await self._parts.claims.claim(params.claim, self._portal_nonce, self._address)
                # an order that has begun goes on with resume: what its device has taken isn't known here
                self._claimed = claimed.jti
                self._jti = None if claimed.result.resumed else claimed.jti
                return claimed.result
            case ResumeParams():
                self._claimed, self._taken, result = await self._parts.incoming.resume(
                    params.resume, self._portal_nonce, self._claimed
                )
                self._jti = self._claimed
                return result
            case MessageParams():
                if self._jti is None:
                    raise InlayError("order_unknown")
                await self._parts.incoming.take(self._jti, params.message)
                return Empty()
            case _:
                raise InlayError("method_unknown")

    def _authenticated(self, params: AuthenticateParams) -> AuthenticateResult:
        context = self._parts.context
        proof = ChannelProof(
            iss=context.portal,
            aud="inlay",
            nonce=params.nonce,
            portal_nonce=self._portal_nonce,
            iat=context.clock(),
        )
        return AuthenticateResult(proof=context.keys.order_keys()[0].sign(jose.CHANNEL, proof))

    async def _send_outbox(self, jti: str) -> None:
        """Send the outbox, now and after each change."""
        bus = self._parts.context.database.bus
        with bus.watch(order_topic(jti)) as watch:
            while True:
                for seq, token in await outgoing.after(self._parts.context, jti, self._taken):
                    await self._deliver(token)
                    self._taken = seq
                await watch.wait()

    async def _deliver(self, token: str) -> None:
        id_, frame = self._session.call("message", MessageParams(message=token))
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[id_] = waiting
        try:
            await self._send(frame)
            async with asyncio.timeout(ANSWER_SECONDS):
                await waiting
        finally:
            self._waiting.pop(id_, None)

    def _acknowledged(self, id_: int) -> None:
        waiting = self._waiting.get(id_)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

"""A portal in the test's own process: the channel over real TLS, a small CA, and faults on demand.

Built on ``protocol.session`` alone, so that the agent is tested against the contract and not against the portal's
code. Every fault is a field of ``Faults``; without any the order *create virtual card* runs to its end.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Self

import msgspec
from aiohttp import WSMsgType, web

from protocol import jose, keyset
from protocol.errors import InlayError
from protocol.messages import (
    Account,
    AuthenticateParams,
    AuthenticateResult,
    Binding,
    ChannelHelloResult,
    ChannelProof,
    Claim,
    ClaimParams,
    ClaimResult,
    Confirmation,
    CreateVirtualCard,
    Empty,
    Envelope,
    ErrorData,
    HelloParams,
    KeySet,
    Message,
    MessageParams,
    Operation,
    Order,
    OrderState,
    PinPolicy,
    Resume,
    ResumeParams,
    ResumeResult,
    StorageLevel,
    Undo,
)
from protocol.orders import Exchange, Side
from protocol.session import Request, Role, Session
from tests.support.fake_answers import FakeAnswers
from tests.support.fake_order import (
    AUTHENTICATION,
    ENCRYPTION,
    EVENT_SECONDS,
    SIGNATURE,
    OrderAtPortal,
)

if TYPE_CHECKING:
    from tests.support.certificates import ThrowAwayCA


class _Cut(Exception):
    """The connection ends here, without a word."""


class FakePortal(FakeAnswers):
    """See the module. Use as an asynchronous context manager.

    Attributes, besides those of `FakeAnswers`:
        orders: by code, once claimed.
        binding: of the orders to come.
        operation: what the orders to come are for; None: a new card, with ``keys`` and ``parameters``.
    """

    def __init__(self, tls: ThrowAwayCA) -> None:
        super().__init__()
        self.tls = tls
        self.root = jose.SigningKey.generate()
        self.key = jose.SigningKey.generate()
        self.escrow = jose.SigningKey.generate()
        self.binding = Binding.NUMBER
        self.keys = [AUTHENTICATION, SIGNATURE, ENCRYPTION]
        self.parameters: dict[str, Any] = {}
        self.operation: Operation | None = None
        self.resume_within = 3600
        self.key_set_version = 1
        self.clock_offset = 0
        self.orders: dict[str, OrderAtPortal] = {}
        self.connections = 0
        self.resumes: list[Resume] = []
        self._claimed = asyncio.Condition()
        self._sockets: dict[int, tuple[web.WebSocketResponse, Session]] = {}
        self._open: set[web.WebSocketResponse] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None
        self.portal = ""

    @property
    def origin(self) -> str:
        return f"https://{self.portal}"

    async def start(self, port: int = 0) -> Self:
        """Listen; at a given port again after `stop`."""
        application = web.Application()
        application.router.add_get("/inlay/channel", self._channel)
        application.router.add_get("/.well-known/inlay", self._well_known)
        self._runner = web.AppRunner(application, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=self.tls.server_context())
        await site.start()
        self.portal = f"localhost:{self._runner.addresses[0][1]}"
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self.cut()
            await self._runner.cleanup()
            self._runner = None
            _abort_connections(int(self.portal.partition(":")[2]))
            await asyncio.sleep(0)

    async def cut(self) -> None:
        """End every connection, and be there for the next."""
        for socket in list(self._open):
            await socket.close()

    async def restart(self) -> None:
        """Be away, and come back at the same address."""
        port = int(self.portal.partition(":")[2])
        await self.stop()
        await self.start(port)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def claimed(self, code: str) -> OrderAtPortal:
        """Wait until a code has been claimed."""
        async with asyncio.timeout(EVENT_SECONDS), self._claimed:
            await self._claimed.wait_for(lambda: code in self.orders)
        return self.orders[code]

    async def connected(self, times: int) -> None:
        """Wait until the agent has connected so often."""
        async with asyncio.timeout(EVENT_SECONDS), self._claimed:
            await self._claimed.wait_for(lambda: self.connections >= times)

    def key_set(self) -> str:
        """The key set as it is sent."""
        now = int(time.time()) + self.clock_offset
        value = KeySet(
            iss=self.portal,
            version=self.key_set_version,
            iat=now - 10,
            exp=now + 86_400,
            order_keys=keyset.order_keys([self.key]),
            name="Test portal",
            channel_path="/inlay/channel",
        )
        if self.faults.key_set is not None:
            value = self.faults.key_set(value)
        return keyset.sign(value, self.faults.key_set_signer or self.root)

    # --- actions of the portal's own

    async def say(self, at: OrderAtPortal, body: Message) -> None:
        """Send a message of an order, now or at the next resume."""
        token = at.exchange.send(body)
        seq = at.exchange.position.sent
        change = self.faults.message.pop(type(body).__name__.lower(), None)
        at.outbox[seq] = token if change is None else change(token)
        for socket, session in list(self._sockets.values()):
            await self._deliver(socket, session, at, seq)

    async def undo(self, at: OrderAtPortal, error: str = "cancelled_at_portal") -> None:
        """The portal undoes an order."""
        self._nothing_valid(at)
        at.state = OrderState.UNDOING
        await self.say(at, Undo(error=ErrorData(error=error)))

    # --- the channel

    async def _well_known(self, _request: web.Request) -> web.Response:
        body = {"key_set": self.key_set(), "root_key": msgspec.to_builtins(self.root.public)}
        return web.Response(text=json.dumps(body), content_type="application/json")

    async def _channel(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("inlay.v1",))
        await socket.prepare(request)
        async with self._claimed:
            self.connections += 1
            self._claimed.notify_all()
        self._open.add(socket)
        session = Session(Role.CHANNEL_PORTAL)
        context: dict[str, Any] = {}
        try:
            async for frame in socket:
                if frame.type is not WSMsgType.TEXT:
                    break
                event = session.receive(frame.data)
                if isinstance(event, Request):
                    await self._answer(socket, session, event, context)
        except _Cut:
            if socket._req is not None and socket._req.transport is not None:
                socket._req.transport.abort()
        finally:
            self._open.discard(socket)
            self._sockets.pop(id(socket), None)
        return socket

    async def _answer(
        self, socket: web.WebSocketResponse, session: Session, event: Request, context: dict[str, Any]
    ) -> None:
        try:
            result, then = await self._perform(event.params, context)
        except InlayError as error:
            await socket.send_str(session.refuse(event.id, error).decode())
            return
        await socket.send_str(session.respond(event.id, result).decode())
        if "order" in context:
            self._sockets[id(socket)] = (socket, session)
        if then is not None:
            task: asyncio.Task[None] = asyncio.create_task(then(socket, session))
            self._tasks.append(task)

    async def _perform(self, params: Message, context: dict[str, Any]) -> tuple[Message, Any]:
        match params:
            case HelloParams():
                return ChannelHelloResult(version=1, key_set=self.key_set()), None
            case AuthenticateParams(nonce=nonce):
                context["nonce"] = jose.new_nonce()
                return AuthenticateResult(proof=self._proof(nonce, context["nonce"])), None
            case ClaimParams(claim=token):
                return await self._claim(token, context), None
            case ResumeParams(resume=token):
                return self._resume(token, context)
            case MessageParams(message=token):
                return await self._take(token, context)
            case _:
                raise TypeError(type(params))

    def _proof(self, nonce: str, portal_nonce: str) -> str:
        now = int(time.time()) + self.clock_offset
        proof = ChannelProof(iss=self.portal, aud="inlay", nonce=nonce, portal_nonce=portal_nonce, iat=now)
        if self.faults.proof is not None:
            proof = self.faults.proof(proof)
        return (self.faults.proof_signer or self.key).sign(jose.CHANNEL, proof)

    async def _claim(self, token: str, context: dict[str, Any]) -> ClaimResult:
        unverified = jose.unverified_payload(token, jose.CLAIM, Claim)
        claim = jose.verify(token, jose.CLAIM, [unverified.device_key], Claim)
        assert claim.portal_nonce == context["nonce"]
        if self.faults.claim is not None:
            raise self.faults.claim
        if "claim" in self.faults.drop_before:
            self.faults.drop_before.remove("claim")
            raise _Cut
        if claim.code in self.orders:
            return self._claimed_again(claim, context)
        order = self._order(claim)
        if self.faults.order is not None:
            order = self.faults.order(order)
        make = self.faults.order_token or (lambda value: self.key.sign(jose.ORDER, value))
        exchange = Exchange(
            order.jti, Side.PORTAL, self.key, [claim.device_key], certifies=order.parameters.certifies
        )
        at = OrderAtPortal(order, make(order), claim.device_key, exchange, claim)
        async with self._claimed:
            self.orders[claim.code] = context["order"] = at
            self._claimed.notify_all()
        if "claim" in self.faults.drop_after:
            self.faults.drop_after.remove("claim")
            raise _Cut
        return ClaimResult(order=at.token)

    def _claimed_again(self, claim: Claim, context: dict[str, Any]) -> ClaimResult:
        known = self.orders[claim.code]
        if known.device != claim.device_key:
            raise InlayError("code_used")
        if known.exchange.position.received:
            return ClaimResult(order=known.token, resumed=True)
        known.order = msgspec.structs.replace(known.order, nonce=claim.nonce)
        known.token = self.key.sign(jose.ORDER, known.order)
        context["order"] = known
        return ClaimResult(order=known.token)

    def _order(self, claim: Claim) -> Order:
        now = int(time.time()) + self.clock_offset
        parameters: dict[str, Any] = {
            "card": "card-1",
            "label": "Virtual smart card alex@example.org",
            "server_name": "localhost",
            "valid_until": now + 63_072_000,
            "pin_policy": PinPolicy(),
            "keys": self.keys,
            "storage": [StorageLevel.KEYSTORE, StorageLevel.FILE],
            "puk": "escrow",
            "escrow_key": self.escrow.public,
        }
        return Order(
            iss=self.portal,
            aud="inlay",
            jti=f"order-{claim.code}",
            iat=now,
            exp=now + 120,
            cnf=Confirmation(jkt=jose.thumbprint(claim.device_key)),
            nonce=claim.nonce,
            origin=self.origin,
            account=Account(id="7", name="Alex Example", user_id="alex@example.org"),
            binding=self.binding,
            resume_within=self.resume_within,
            parameters=self.operation or CreateVirtualCard(**{**parameters, **self.parameters}),
            completion=jose.new_nonce() if self.binding is Binding.COMPLETION else None,
        )

    def _resume(self, token: str, context: dict[str, Any]) -> tuple[ResumeResult, Any]:
        unverified = jose.unverified_payload(token, jose.RESUME, Resume)
        if self.faults.refuse_resume is not None:
            raise self.faults.refuse_resume
        at = next((item for item in self.orders.values() if item.order.jti == unverified.jti), None)
        if at is None:
            raise InlayError("order_unknown")
        resume = jose.verify(token, jose.RESUME, [at.device], Resume)
        assert resume.portal_nonce == context["nonce"]
        self.resumes.append(resume)
        context["order"] = at

        async def again(socket: web.WebSocketResponse, session: Session) -> None:
            for seq in sorted(at.outbox):
                if seq > resume.received:
                    await self._deliver(socket, session, at, seq)

        return ResumeResult(state=at.state, received=at.exchange.position.received), again

    async def _deliver(
        self, socket: web.WebSocketResponse, session: Session, at: OrderAtPortal, seq: int
    ) -> None:
        _, frame = session.call("message", MessageParams(message=at.outbox[seq]))
        if not socket.closed:
            await socket.send_str(frame.decode())

    async def _take(self, token: str, context: dict[str, Any]) -> tuple[Empty, Any]:
        at: OrderAtPortal = context["order"]
        envelope = jose.unverified_payload(token, jose.MESSAGE, Envelope)
        if envelope.type in self.faults.drop_before:
            self.faults.drop_before.discard(envelope.type)
            raise _Cut
        body = at.exchange.receive(token)
        answer = self._react(at, body)
        async with at.changed:
            at.taken.append(body)
            at.changed.notify_all()
        if envelope.type in self.faults.drop_after:
            self.faults.drop_after.discard(envelope.type)
            if answer is not None:
                at.outbox[at.exchange.position.sent + 1] = at.exchange.send(answer)
            raise _Cut
        if answer is None or envelope.type in self.faults.silent:
            return Empty(), None

        async def go_on(_socket: web.WebSocketResponse, _session: Session) -> None:
            await self.say(at, answer)

        return Empty(), go_on


def _abort_connections(port: int) -> None:
    """End what is left of connections to a port: TLS with a killed agent never says its good-bye.

    The event loop's own list is the one place that has connections whose handshake never ended.
    """
    for transport in list(getattr(asyncio.get_running_loop(), "_transports", {}).values()):
        own = transport.get_extra_info("sockname")
        if isinstance(own, tuple) and own[1] == port:
            transport.abort()

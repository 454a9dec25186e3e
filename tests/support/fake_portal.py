"""A portal in the test's own process: the channel over real TLS, a small CA, and faults on demand.

Built on ``protocol.session`` alone, so that the agent is tested against the contract and not against the portal's
code. Every fault is a field of ``Faults``; without any the order *create virtual card* runs to its end.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import msgspec
from aiohttp import WSMsgType, web
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from protocol import jose, keyset
from protocol.errors import InlayError
from protocol.messages import (
    Account,
    AuthenticateParams,
    AuthenticateResult,
    Binding,
    CardProved,
    CardSecrets,
    Changing,
    ChannelHelloResult,
    ChannelProof,
    Claim,
    ClaimParams,
    ClaimResult,
    Confirmation,
    Consented,
    CreateVirtualCard,
    Empty,
    EncodeCard,
    Envelope,
    ErrorData,
    Finished,
    HelloParams,
    IdentityAnswer,
    IdentityQuestion,
    KeySet,
    ManagementProof,
    ManagementQuestion,
    Message,
    MessageParams,
    Operation,
    Order,
    OrderState,
    PinPolicy,
    Proceed,
    PublicJwk,
    Receipt,
    Requests,
    Resume,
    ResumeParams,
    ResumeResult,
    StorageLevel,
    Undo,
    Undone,
)
from protocol.orders import Exchange, Side, Stage
from protocol.session import Request, Role, Session
from tests.support.fake_issuing import FakeCA
from tests.support.fake_order import (
    AUTHENTICATION,
    ENCRYPTION,
    EVENT_SECONDS,
    SIGNATURE,
    Faults,
    OrderAtPortal,
)

if TYPE_CHECKING:
    from tests.support.certificates import ThrowAwayCA


class _Cut(Exception):
    """The connection ends here, without a word."""


class FakePortal:
    """See the module. Use as an asynchronous context manager.

    Attributes:
        faults: what goes wrong.
        orders: by code, once claimed.
        binding: of the orders to come.
        number_given: the number is taken as typed at once.
        operation: what the orders to come are for; None: a new card, with ``keys`` and ``parameters``.
        puk: what sets a new PIN; None: nothing does.
        management_keys: what the portal has for a physical card, in the order in which it tries them.
        new_key: management key that a card gets; None: none. So are ``new_puk`` and ``pin``.
        other_cards: GUIDs of other cards of the portal's.
        puk_unsure: an earlier order may have given the card ``new_puk``.
        answers: what is done with the answer to a question, by the question; None: it is sent at once.
    """

    def __init__(self, tls: ThrowAwayCA) -> None:
        self.tls = tls
        self.root = jose.SigningKey.generate()
        self.key = jose.SigningKey.generate()
        self.escrow = jose.SigningKey.generate()
        self.ca = FakeCA()
        self.faults = Faults()
        self.binding = Binding.NUMBER
        self.keys = [AUTHENTICATION, SIGNATURE, ENCRYPTION]
        self.parameters: dict[str, Any] = {}
        self.operation: Operation | None = None
        self.puk: bytes | None = None
        self.management_keys: list[bytes] = []
        self.new_key: bytes | None = None
        self.new_puk: bytes | None = None
        self.puk_unsure = False
        self.pin: bytes | None = None
        self.answers: Callable[[ManagementQuestion, ManagementProof], ManagementProof | None] = (
            lambda _question, proof: proof
        )
        self.other_cards: set[str] = set()
        self.resume_within = 3600
        self.number_given = True
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

    def _proceed(self, operation: Operation, key: PublicJwk) -> Proceed:
        """What the order needs, for the device alone."""
        secrets = (self.puk, self.new_key, self.pin, self.new_puk)
        puk, new_key, pin, new_puk = (None if each is None else jose.encrypt(each, key) for each in secrets)
        management = operation.management if isinstance(operation, EncodeCard) else None
        keys = [] if management is None or new_key is None else [new_key] * len(management.replace)
        return Proceed(puk=puk, management_keys=keys, pin=pin, new_puk=new_puk, puk_unsure=self.puk_unsure)

    def _first(self, operation: Operation, key: PublicJwk) -> Proceed:
        """What it is told at once: no PUK that waits until the card has proved itself."""
        proceed, management = self._proceed(operation, key), getattr(operation, "management", None)
        waits = management is not None and management.proves
        return msgspec.structs.replace(proceed, puk=None) if waits else proceed

    def _identified(self, at: OrderAtPortal, question: IdentityQuestion) -> Message:
        at.identities.append(question.guid)
        if question.guid not in self.other_cards:
            return IdentityAnswer(number=question.number)
        at.state = OrderState.UNDOING
        return Undo(error=ErrorData(error="card_of_other_object", fields={"guid": question.guid}))

    def _nothing_valid(self, at: OrderAtPortal) -> None:
        """From here on nothing of an order becomes valid, unless it has won."""
        if at.order.parameters.certifies and at.state is not OrderState.FINISHED:
            self.ca.ledger.undone(at.order, changing=at.changing > 0)

    def _proved(self, at: OrderAtPortal, body: CardProved) -> CardSecrets | None:
        """Note it; what waited for it is sent the first time."""
        at.proved.append(body)
        management = getattr(at.order.parameters, "management", None)
        if management is None or not management.proves or len(at.proved) > 1:
            return None
        assert at.consented is not None
        agreed = self._proceed(at.order.parameters, at.consented.encryption_key)
        return CardSecrets(puk=agreed.puk)

    def _changing(self, at: OrderAtPortal) -> None:
        at.changing += 1
        if at.state is not OrderState.RUNNING:  # half done from now on, too
            self._nothing_valid(at)

    def _react(self, at: OrderAtPortal, body: Message) -> Message | None:
        """What the portal says to a message."""
        match body:
            case Consented():
                at.consented = body
                return self._first(at.order.parameters, body.encryption_key) if self.number_given else None
            case ManagementQuestion():
                at.questions.append(body)
                if body.refused >= len(self.management_keys):
                    self._nothing_valid(at)
                    at.state = OrderState.UNDOING
                    return Undo(error=ErrorData(error="card_management_wrong"))
                proof = management_answer(self.management_keys[body.refused], body)
                return self.answers(body, proof)
            case CardProved() | IdentityQuestion():
                return self._proved(at, body) if isinstance(body, CardProved) else self._identified(at, body)
            case Changing():
                self._changing(at)
            case Requests():
                at.requests = body
                if at.exchange.position.stage is Stage.UNDOING:
                    return None
                certificates = self.ca.answer(
                    at.order, body, at.consented, running=at.state is OrderState.RUNNING
                )
                return (
                    certificates if self.faults.ca is None else self.ca.altered(certificates, self.faults.ca)
                )
            case Receipt():
                at.receipt = body
                if at.exchange.position.stage is Stage.UNDOING:
                    return None
                if at.order.parameters.certifies:
                    self.ca.check(at.order, body)
                    self.ca.ledger.finished(at.order)
                at.state = OrderState.FINISHED
                return Finished()
            case Undone():
                self._nothing_valid(at)
                at.undone = body.error
                at.state = OrderState.UNDONE
            case _:
                pass
        return None


def management_answer(key: bytes, question: ManagementQuestion) -> ManagementProof:
    """What a management key answers to a question (SP 800-73pt2-5, appendix A.1); cut to the algorithm's length."""
    sizes = {"3DES": (TripleDES, 24), "AES-128": (AES, 16), "AES-192": (AES, 24), "AES-256": (AES, 32)}
    kind, size = sizes[question.algorithm.value]
    cipher = Cipher(kind((key + key)[:size]), modes.ECB())  # noqa: S305 - one block, as the standard has it
    encryptor = cipher.encryptor()
    if question.challenge is not None:
        return ManagementProof(number=question.number, response=encryptor.update(question.challenge))
    assert question.witness is not None
    challenge = os.urandom(len(question.witness))
    return ManagementProof(
        number=question.number,
        response=cipher.decryptor().update(question.witness),
        challenge=challenge,
        expected_sha256=hashlib.sha256(encryptor.update(challenge)).digest(),
    )


def _abort_connections(port: int) -> None:
    """End what is left of connections to a port: TLS with a killed agent never says its good-bye.

    The event loop's own list is the one place that has connections whose handshake never ended.
    """
    for transport in list(getattr(asyncio.get_running_loop(), "_transports", {}).values()):
        own = transport.get_extra_info("sockname")
        if isinstance(own, tuple) and own[1] == port:
            transport.abort()

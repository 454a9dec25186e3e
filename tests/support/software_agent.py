"""An agent of software keys and no card: speaks the channel as any agent must, and breaks any rule a test asks for."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
)
from cryptography.x509.oid import NameOID

from protocol import jose, keyset, orders, proofs
from protocol.messages import (
    Algorithm,
    AuthenticateParams,
    AuthenticateResult,
    CardGeneration,
    CertificateRequest,
    Certificates,
    ChannelHelloResult,
    ChannelProof,
    Claim,
    ClaimParams,
    ClaimResult,
    Consented,
    CreateVirtualCard,
    DeviceInfo,
    Empty,
    Finished,
    HelloParams,
    KeyOrder,
    KeySource,
    Message,
    MessageParams,
    Order,
    Proceed,
    PublicJwk,
    Purpose,
    Receipt,
    Requests,
    Resume,
    ResumeParams,
    ResumeResult,
    SlotProof,
    StorageLevel,
    Transport,
)
from protocol.orders import Exchange, Expected, Side
from protocol.session import Failure, Request, Response, Role, Session
from tests.cards.simulated import rsa_key
from tests.support.order_messages import certified, sequence_of

if TYPE_CHECKING:
    from aiohttp import ClientSession, ClientWebSocketResponse

    from protocol.messages import IssuedCertificate, KeySet

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
_RSA_KEYS: Final = itertools.cycle(range(100, 124))
_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


def make_key(algorithm: Algorithm) -> PrivateKey:
    """A key of an algorithm that no other card of a test has; RSA keys take long to make, so they come in turn."""
    if algorithm is Algorithm.RSA_2048:
        return rsa_key(next(_RSA_KEYS))
    return ec.generate_private_key(ec.SECP256R1())


def make_csr(key: PrivateKey, common_name: str = "somebody else") -> bytes:
    """A PKCS#10 (DER) for a key; its subject is not to be believed."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def public_der(key: PrivateKey) -> bytes:
    """SubjectPublicKeyInfo (DER)."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass
class SoftwareCard:
    """Keys and certificates of one order."""

    guid: str = field(default_factory=lambda: secrets.token_hex(16))
    serial: str = field(default_factory=lambda: str(secrets.randbelow(10**9)))
    generation: int = 41
    puk: bytes = b"48151623"
    keys: dict[str, PrivateKey] = field(default_factory=dict)
    made: set[tuple[str, str]] = field(default_factory=set)
    """order and slot of the keys that orders had made"""
    imports: bool = True
    """whether it takes keys that were made elsewhere"""
    certificates: dict[str, bytes] = field(default_factory=dict)

    def request(self, key: KeyOrder, jti: str) -> CertificateRequest:
        """Make the key of a slot where an order says so, once, and its request."""
        if key.source is not KeySource.KEEP and (jti, key.slot) not in self.made:
            self.made.add((jti, key.slot))
            self.keys[key.slot] = make_key(key.algorithm)
        made = self.keys[key.slot]
        if key.purpose is Purpose.ENCRYPTION and key.algorithm is Algorithm.P_256:
            return CertificateRequest(slot=key.slot, public_key=public_der(made))
        return CertificateRequest(slot=key.slot, csr=make_csr(made))

    def requests(self, order: Order) -> Requests:
        """Requests for every key that is on the card."""
        parameters = certified(order)
        brought = {KeySource.IMPORT, KeySource.IMPORT_IF_POSSIBLE if self.imports else KeySource.IMPORT}
        made = [self.request(key, order.jti) for key in parameters.keys if key.source not in brought]
        declined = [key.slot for key in parameters.keys if key.optional and not self.imports]
        escrow = parameters.escrow_key if isinstance(parameters, CreateVirtualCard) else None
        puk = jose.encrypt(self.puk, escrow) if escrow else None
        return Requests(guid=self.guid, serial=self.serial, requests=made, puk=puk, declined=declined)

    def prove(self, order: Order, issued: IssuedCertificate, ephemeral: jose.SigningKey) -> SlotProof:
        """Write a certificate, and prove its key."""
        if issued.key is not None:
            key = load_der_private_key(bytes(ephemeral.decrypt(issued.key)), None)
            assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
            self.keys[issued.slot] = key
        self.certificates[issued.slot] = issued.certificate
        hashed = proofs.certificate_hash(issued.certificate)
        if issued.challenge is None:
            signature = self.sign(
                issued.slot, proofs.signature_input(order.origin, order.jti, issued.certificate)
            )
            return SlotProof(slot=issued.slot, certificate_sha256=hashed, signature=signature)
        secret = self.answer(issued)
        mac = proofs.mac(secret, order.origin, order.jti, issued.certificate)
        return SlotProof(slot=issued.slot, certificate_sha256=hashed, mac=mac)

    def sign(self, slot: str, data: bytes) -> bytes:
        """Sign with a slot's key."""
        key = self.keys[slot]
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return key.sign(data, ec.ECDSA(hashes.SHA256()))

    def answer(self, issued: IssuedCertificate) -> bytes:
        """What a slot's key finds in a challenge."""
        key = self.keys[issued.slot]
        assert issued.challenge is not None
        if isinstance(key, rsa.RSAPrivateKey):
            assert issued.challenge.ciphertext is not None
            return key.decrypt(issued.challenge.ciphertext, _OAEP)
        assert issued.challenge.ephemeral is not None
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), issued.challenge.ephemeral)
        return key.exchange(ec.ECDH(), point)


class SoftwareAgent:
    """One device. Connections come and go; device key, order and exchange stay.

    Args:
        client: HTTP client.
        base: URL of the portal's server, for example ``http://127.0.0.1:4711``.
        root: the pinned root key.
        portal: the portal's id.
        origin: the portal's origin.
    """

    def __init__(self, client: ClientSession, base: str, root: PublicJwk, portal: str, origin: str) -> None:
        self.client, self.base, self.root, self.portal, self.origin = client, base, root, portal, origin
        self.device = jose.SigningKey.generate()
        self.ephemeral = jose.SigningKey.generate()
        self.card = SoftwareCard()
        self.cards: list[CardGeneration] = []
        self.key_set: KeySet | None = None
        self.order: Order | None = None
        self.exchange: Exchange | None = None
        self.sent: list[str] = []
        self.nonce = jose.new_nonce()
        self.portal_nonce = ""
        self.portal_time = 0.0
        self._socket: ClientWebSocketResponse | None = None
        self._reader: asyncio.Task[None] | None = None
        self._session = Session(Role.CHANNEL_AGENT)
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.lose_acknowledgements = False

    async def connect(self) -> Self:
        """Connect, and authenticate the portal."""
        self._session, self._answers = Session(Role.CHANNEL_AGENT), {}
        self._socket = await self.client.ws_connect(self.base + "/inlay/channel")
        self._reader = asyncio.create_task(self._read(self._socket, self._session))
        hello = await self.call("hello", HelloParams(versions=[1]))
        assert isinstance(hello, ChannelHelloResult)
        self.key_set = keyset.verify(
            hello.key_set, root=self.root, portal=self.portal, now=time.time(), last_version=0
        )
        nonce = jose.new_nonce()
        answer = await self.call("authenticate", AuthenticateParams(nonce=nonce))
        assert isinstance(answer, AuthenticateResult)
        keys = [item.key for item in self.key_set.order_keys]
        proof = jose.verify(answer.proof, jose.CHANNEL, keys, ChannelProof)
        assert proof.nonce == nonce
        assert proof.iss == self.portal
        self.portal_nonce, self.portal_time = proof.portal_nonce, proof.iat
        return self

    async def close(self) -> None:
        """Drop the connection."""
        if self._socket is not None:
            await self._socket.close()
        if self._reader is not None:
            await self._reader

    async def closed(self, seconds: float) -> None:
        """Wait until the portal closes the connection."""
        assert self._reader is not None
        async with asyncio.timeout(seconds):
            await asyncio.shield(self._reader)

    def claim_message(
        self, code: str, transport: Transport = Transport.LINK, origin: str | None = None
    ) -> Claim:
        """The claim of a code."""
        return Claim(
            aud=self.portal,
            code=code,
            nonce=self.nonce,
            portal_nonce=self.portal_nonce,
            device_key=self.device.public,
            device=DeviceInfo(name="desk", platform="Linux", version="1"),
            transport=transport,
            storage=[StorageLevel.KEYSTORE],
            origin=origin,
            cards=self.cards,
        )

    async def claim(
        self, code: str, transport: Transport = Transport.LINK, origin: str | None = None
    ) -> ClaimResult:
        """Claim a code, and verify the order."""
        message = self.claim_message(code, transport, origin)
        return await self.send_claim(self.device.sign(jose.CLAIM, message))

    async def send_claim(self, token: str) -> ClaimResult:
        """Send a claim, and verify the order."""
        result = await self.call("claim", ClaimParams(claim=token))
        assert isinstance(result, ClaimResult)
        assert self.key_set is not None
        expected = Expected(
            self.portal, self.origin, None, self.device.thumbprint, self.nonce, self.portal_time
        )
        self.order = orders.verify_order(result.order, self.key_set, expected)
        if self.exchange is None:
            keys = [item.key for item in self.key_set.order_keys]
            self.exchange = Exchange(
                self.order.jti,
                Side.AGENT,
                self.device,
                keys,
                certifies=self.order.parameters.certifies,
            )
        return result

    async def resume(self, outcome: str = "running") -> ResumeResult:
        """Take the order up again on this connection, and send again what the portal has not taken."""
        assert self.order is not None
        assert self.exchange is not None
        message = Resume(
            aud=self.portal,
            jti=self.order.jti,
            portal_nonce=self.portal_nonce,
            received=self.exchange.position.received,
            outcome="undone" if outcome == "undone" else "running",
        )
        token = self.device.sign(jose.RESUME, message)
        result = await self.call("resume", ResumeParams(resume=token))
        assert isinstance(result, ResumeResult)
        for sent in self.sent:
            if sequence_of(sent) > result.received:
                await self.send_token(sent)
        return result

    async def say(self, body: Message) -> None:
        """Send a message of the order."""
        assert self.exchange is not None
        token = self.exchange.send(body)
        self.sent.append(token)
        await self.send_token(token)

    async def send_token(self, token: str) -> None:
        """Send a message that is signed already."""
        answer = await self.call("message", MessageParams(message=token))
        assert isinstance(answer, Empty)

    async def hear(self, seconds: float = 10) -> Message:
        """The portal's next message."""
        async with asyncio.timeout(seconds):
            return await self.inbox.get()

    async def call(self, method: str, params: Message) -> Message:
        """Call the portal; raises what it refuses with."""
        id_, frame = self._session.call(method, params)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answers[id_] = future
        assert self._socket is not None
        await self._socket.send_str(frame.decode())
        async with asyncio.timeout(10):
            return await future

    async def consent(self, number: str | None = None, storage: StorageLevel = StorageLevel.KEYSTORE) -> None:
        """The person agrees."""
        await self.say(self.consented(storage if self._makes_card else None, number))

    def consented(self, storage: StorageLevel | None = None, number: str | None = None) -> Consented:
        """What is said when the person agrees."""
        return Consented(encryption_key=self.ephemeral.public, storage=storage, number=number)

    async def make_card(self) -> Receipt:
        """From *proceed* to the receipt, which isn't sent yet."""
        assert self.order is not None
        assert isinstance(await self.hear(), Proceed)
        await self.say(self.card.requests(self.order))
        answer = await self.hear()
        assert isinstance(answer, Certificates), answer
        return self.receipt(answer)

    def receipt(self, certificates: Certificates) -> Receipt:
        """Write all certificates, and prove all keys."""
        order = self.order
        assert order is not None
        given = [self.card.prove(order, item, self.ephemeral) for item in certificates.certificates]
        kept = StorageLevel.KEYSTORE if self._makes_card else None
        return Receipt(guid=self.card.guid, generation=self.card.generation, storage=kept, proofs=given)

    @property
    def _makes_card(self) -> bool:
        assert self.order is not None
        return isinstance(self.order.parameters, CreateVirtualCard)

    async def complete(self) -> None:
        """From *proceed* to *finished*."""
        await self.say(await self.make_card())
        answer = await self.hear()
        assert isinstance(answer, Finished), answer

    async def _read(self, socket: ClientWebSocketResponse, session: Session) -> None:
        async for frame in socket:
            event = session.receive(frame.data)
            if isinstance(event, Response):
                self._answers.pop(event.id).set_result(event.result)
            elif isinstance(event, Failure):
                waiting = self._answers.pop(event.id or 0, None)
                if waiting is not None:
                    waiting.set_exception(event.error)
            elif isinstance(event, Request):
                assert isinstance(event.params, MessageParams)
                if self.lose_acknowledgements:
                    await socket.close()
                    return
                assert self.exchange is not None
                body = self.exchange.receive(event.params.message)
                await socket.send_str(session.respond(event.id, Empty()).decode())
                self.inbox.put_nowait(body)
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(ConnectionResetError())

"""One connection to a portal: the agent calls the address of its own trust entry, and nobody else's.

TLS is verified always; then the portal's key set (signed by the pinned root key), then a fresh proof by one of
its order keys. Only then does the agent say who it is.

Errors: ``portal_unreachable``, ``portal_tls_untrusted``, ``keyset_…``, ``portal_proof_invalid``,
``clock_wrong``, ``timeout``, and what the portal refuses a call with.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from agent import clock
from agent.trust_fetch import unreachable
from protocol import jose, keyset, session
from protocol.codec import MAX_FRAME_BYTES
from protocol.errors import InlayError
from protocol.messages import (
    PROTOCOL_VERSIONS,
    AuthenticateParams,
    AuthenticateResult,
    ChannelHelloResult,
    ChannelProof,
    Empty,
    HelloParams,
    KeySet,
    Message,
    MessageParams,
)
from protocol.session import Failure, Request, Response, Role, Session, State

if TYPE_CHECKING:
    from agent.clock import PortalClock
    from agent.trust import TrustEntry, TrustStore

_LOG = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 15
ANSWER_SECONDS: Final = 60
SUBPROTOCOL: Final = Subprotocol("inlay.v1")

R = TypeVar("R", bound=Message)


class ChannelClosedError(Exception):
    """The connection is gone; what was on its way may or may not have arrived."""


class Channel:
    """An authenticated connection to a portal. Made by `open_channel`; close it with `close`.

    Attributes:
        entry: the trust entry it was opened for.
        key_set: the portal's verified key set.
        portal_clock: the portal's time.
        portal_nonce: the portal's nonce for this connection: claims and resumes are bound to it.
        incoming: tokens of ``message`` calls, each with the id to `confirm` or `refuse` it by.
    """

    key_set: KeySet
    portal_clock: PortalClock
    portal_nonce: str

    def __init__(self, entry: TrustEntry, connection: ClientConnection) -> None:
        """Take over an open WebSocket; nothing has been said on it."""
        self.entry = entry
        self.incoming: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self._connection = connection
        self._session = Session(Role.CHANNEL_AGENT)
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._reader = asyncio.create_task(self._read())

    async def call(self, method: str, params: Message, result: type[R]) -> R:
        """Call the portal.

        Args:
            method: the method.
            params: its parameters.
            result: struct of its result.

        Raises:
            InlayError: what the portal refuses with, or ``timeout``.
            ChannelClosedError: the connection is gone.
        """
        id_, frame = self._open().call(method, params)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answers[id_] = answer
        try:
            await self._send(frame)
            async with asyncio.timeout(ANSWER_SECONDS):
                value = await answer
        except TimeoutError:
            await self.close()
            raise InlayError("timeout", seconds=ANSWER_SECONDS) from None
        finally:
            self._answers.pop(id_, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # the connection ended while it was sent: who called is told by that alone
        if not isinstance(value, result):
            raise TypeError(method)
        return value

    async def confirm(self, id_: int) -> None:
        """Confirm a message of the portal: it is on disk here."""
        await self._send(self._open().respond(id_, Empty()))

    async def refuse(self, id_: int, error: InlayError) -> None:
        """Refuse a message of the portal."""
        await self._send(self._open().refuse(id_, error))

    async def wait_closed(self) -> None:
        """Wait until the connection is gone."""
        await asyncio.wait({self._reader})

    async def close(self) -> None:
        """Close the connection; harmless when it is closed."""
        await self._connection.close()
        await asyncio.wait({self._reader})

    def _open(self) -> Session:
        """The session of a connection that is there.

        Raises:
            ChannelClosedError: it isn't: nothing is wrong with what was to be said, and it may be said on another.
        """
        if self._session.state is State.CLOSED:
            raise ChannelClosedError
        return self._session

    async def _send(self, frame: bytes) -> None:
        try:
            await self._connection.send(frame, text=True)
        except ConnectionClosed:
            raise ChannelClosedError from None

    async def _read(self) -> None:
        """Take frames until the connection ends; what waits for answers is told then."""
        try:
            async for frame in self._connection:
                self._take(frame)
        except InlayError as error:
            _LOG.warning("%s sent a frame that can't be taken: %s", self.entry.portal, error.code)
            with contextlib.suppress(ConnectionClosed):
                await self._connection.send(self._session.refuse(None, error), text=True)
        except ConnectionClosed as closed:
            _LOG.debug("channel to %s closed: %s", self.entry.portal, closed.rcvd)
        finally:
            self._session.close()
            await self._connection.close()
            for waiting in self._answers.values():
                if not waiting.done():
                    waiting.set_exception(ChannelClosedError())

    def _take(self, frame: str | bytes) -> None:
        match self._session.receive(frame):
            case Request(id=id_, params=MessageParams(message=token)):
                self.incoming.put_nowait((id_, token))
            case Response(id=id_, result=result):
                self._settle(id_, result)
            case Failure(id=int() as id_, error=error):
                self._settle(id_, error)
            case Failure(error=error):
                raise error
            case event:
                raise TypeError(type(event))

    def _settle(self, id_: int, value: Message | InlayError) -> None:
        waiting = self._answers.get(id_)
        if waiting is None or waiting.done():
            return
        if isinstance(value, InlayError):
            waiting.set_exception(value)
        else:
            waiting.set_result(value)


async def open_channel(entry: TrustEntry, store: TrustStore) -> Channel:
    """Connect to a portal, and have it prove who it is.

    Args:
        entry: the portal's trust entry.
        store: where its key set is remembered.

    Raises:
        InlayError: see the module.
    """
    path = await asyncio.to_thread(store.channel_path, entry)
    connection = await _connect(entry, path)
    channel = Channel(entry, connection)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await _authenticate(channel, store)
    except BaseException as error:
        await channel.close()
        if isinstance(error, TimeoutError):
            raise InlayError("timeout", seconds=CONNECT_SECONDS) from None
        if isinstance(error, ChannelClosedError):
            raise InlayError(
                "portal_unreachable", portal=entry.portal, cause="it closed the connection"
            ) from None
        raise
    return channel


async def _connect(entry: TrustEntry, path: str) -> ClientConnection:
    context = await asyncio.to_thread(entry.tls)
    try:
        return await connect(
            f"wss://{entry.portal}{path}",
            ssl=context,
            subprotocols=[SUBPROTOCOL],
            compression=None,
            open_timeout=CONNECT_SECONDS,
            max_size=MAX_FRAME_BYTES,
            user_agent_header=None,
        )
    except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
        raise unreachable(entry.portal, error) from None


async def _authenticate(channel: Channel, store: TrustStore) -> None:
    entry = channel.entry
    hello = await channel.call("hello", HelloParams(versions=list(PROTOCOL_VERSIONS)), ChannelHelloResult)
    session.choose_version([hello.version])
    key_set = await asyncio.to_thread(store.accept_key_set, entry, hello.key_set)
    nonce = jose.new_nonce()
    answer = await channel.call("authenticate", AuthenticateParams(nonce=nonce), AuthenticateResult)
    try:
        proof = jose.verify(
            answer.proof, jose.CHANNEL, [item.key for item in key_set.order_keys], ChannelProof
        )
    except jose.TokenError:
        raise InlayError("portal_proof_invalid") from None
    if proof.iss != entry.portal or proof.nonce != nonce:
        raise InlayError("portal_proof_invalid")
    channel.portal_clock = clock.learn(proof.iat)
    if keyset.expired(key_set, proof.iat):
        raise InlayError("keyset_expired")
    channel.key_set = key_set
    channel.portal_nonce = proof.portal_nonce

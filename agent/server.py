"""The loopback server: pages of trusted portals hand over codes here. 127.0.0.1 and ::1, and nothing else.

Before a WebSocket is opened, the peer must be this user's, and Host and Origin must be right. A page then says
``hello`` within five seconds; its first failure closes the connection. What a page learns of the machine before
it presents a ticket is that an Inlay agent is here, and its protocol versions.

aiohttp's server is used here and nowhere else in the agent.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections import Counter
from typing import TYPE_CHECKING, Final

from aiohttp import web

from agent.origins import HeaderRefused, MalformedHeader, check_host, check_origin
from agent.page_connection import PageConnection
from agent.peer import holder_of, user_of
from agent.rates import RateLimit
from protocol import codec
from protocol.errors import InlayError
from protocol.loopback_ports import PATH, PORTS, SUBPROTOCOL, WELL_KNOWN
from protocol.messages import PROTOCOL_VERSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.environment import LastEnvironment
    from agent.handlers.registry import PageHandler
    from agent.order_ports import Services

_LOG = logging.getLogger(__name__)

ADDRESSES: Final = ("127.0.0.1", "::1")
MAX_CONNECTIONS_PER_ORIGIN: Final = 8
MAX_CONNECTIONS: Final = 64
"""Of all origins and programs together, so that nobody uses up the agent's descriptors."""
OPENS_PER_MINUTE: Final = 12
REQUEST_SECONDS: Final = 5.0
"""How long a connection may stay open without a whole request: any program of the machine can open one."""
_PING_SECONDS: Final = 30.0
_BACKLOG: Final = 16
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class LoopbackServer:
    """The server of one user.

    Attributes:
        port: where it listens; 0 when it doesn't.
    """

    def __init__(
        self,
        services: Services,
        handlers: Mapping[str, PageHandler],
        trusted_origins: Callable[[], Sequence[str]],
        environment: LastEnvironment,
    ) -> None:
        """Prepare; `listen` begins.

        Args:
            services: what handlers work with.
            handlers: method to handler.
            trusted_origins: asked at each connection.
            environment: where windows open.
        """
        self.port = 0
        self._services = services
        self._handlers = handlers
        self._trusted_origins = trusted_origins
        self._environment = environment
        self._open = Counter[str]()
        self._rates = RateLimit(OPENS_PER_MINUTE, 60.0)
        self._runner: web.AppRunner | None = None
        self._listening: list[asyncio.Server] = []
        self._pages: set[PageConnection] = set()

    async def listen(self) -> None:
        """Listen on the first port that is free on both addresses.

        Raises:
            InlayError: ``port_unavailable``, with the holder of the first port.
        """
        sockets = _bind_first_free()
        application = web.Application()
        application.on_response_prepare.append(_say_little)
        application.router.add_get(PATH, self._upgrade)
        application.router.add_get(WELL_KNOWN, self._well_known)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
            max_line_size=4096,
            keepalive_timeout=REQUEST_SECONDS,  # counts from the connection's beginning, too
        )
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        for item in sockets:
            self._listening.append(await loop.create_server(self._connection, sock=item, backlog=_BACKLOG))
        self.port = sockets[0].getsockname()[1]
        _LOG.info("pages reach this agent at port %d", self.port)

    async def close(self) -> None:
        """Stop listening, and end all connections."""
        for listening in self._listening:
            listening.close()
        for page in list(self._pages):
            await page.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def addresses(self) -> list[str]:
        """The addresses it listens on."""
        return [item.getsockname()[0] for listening in self._listening for item in listening.sockets]

    def _connection(self) -> asyncio.Protocol:
        """What serves a new connection: nothing, when there are too many."""
        server = None if self._runner is None else self._runner.server
        if server is None or len(server.connections) >= MAX_CONNECTIONS:
            return _TurnedAway()
        return server()

    # --- requests

    async def _well_known(self, request: web.Request) -> web.Response:
        self._check_peer(request)
        self._check_host(request)
        body = codec.encode({"inlay": list(PROTOCOL_VERSIONS)})
        return web.Response(body=body, content_type="application/json", headers=_HEADERS)

    async def _upgrade(self, request: web.Request) -> web.WebSocketResponse:
        self._check_peer(request)
        self._check_host(request)
        origin = self._check_origin(request)
        offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        if SUBPROTOCOL not in [item.strip() for item in offered]:
            raise web.HTTPBadRequest(headers=_HEADERS)
        if self._open[origin] >= MAX_CONNECTIONS_PER_ORIGIN:
            raise web.HTTPTooManyRequests(headers=_HEADERS)
        self._open[origin] += 1
        try:
            return await self._serve(request, origin)
        finally:
            self._open[origin] -= 1

    async def _serve(self, request: web.Request, origin: str) -> web.WebSocketResponse:
        socket_ = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,),
            max_msg_size=codec.MAX_FRAME_BYTES,
            heartbeat=_PING_SECONDS,
            compress=False,
        )
        await socket_.prepare(request)
        page = PageConnection(socket_, origin, self._services, self._handlers, self._environment, self._rates)
        self._pages.add(page)
        try:
            await page.run()
        finally:
            self._pages.discard(page)
        return socket_

    # --- checks before the upgrade

    def _check_peer(self, request: web.Request) -> None:
        """Another user's program gets what it would get where nobody is: the page tries the next port."""
        transport = request.transport
        peer = None if transport is None else transport.get_extra_info("peername")
        own = None if transport is None else transport.get_extra_info("sockname")
        if peer is None or own is None or user_of(peer[:2], own[:2]) != os.geteuid():
            raise web.HTTPServiceUnavailable(headers=_HEADERS)

    def _check_host(self, request: web.Request) -> None:
        try:
            check_host(request.headers.getall("Host", []), self.port)
        except MalformedHeader:
            raise web.HTTPBadRequest(headers=_HEADERS) from None
        except HeaderRefused:
            raise web.HTTPForbidden(headers=_HEADERS) from None

    def _check_origin(self, request: web.Request) -> str:
        try:
            return check_origin(request.headers.getall("Origin", []), self._trusted_origins())
        except MalformedHeader:
            raise web.HTTPBadRequest(headers=_HEADERS) from None
        except HeaderRefused:
            _LOG.warning("a page of another origin was refused")
            raise web.HTTPForbidden(headers=_HEADERS) from None


class _TurnedAway(asyncio.Protocol):
    """Closes at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()


async def _say_little(_request: web.Request, response: web.StreamResponse) -> None:
    """No answer names the program behind it."""
    response.headers.pop("Server", None)


def _bind_first_free() -> list[socket.socket]:
    """Bind the first port that is free on both loopback addresses.

    Raises:
        InlayError: ``port_unavailable``.
    """
    for port in PORTS:
        sockets: list[socket.socket] = []
        try:
            for address in ADDRESSES:
                bound = _bind(address, port)
                if bound is not None:
                    sockets.append(bound)
        except OSError:
            for item in sockets:
                item.close()
            continue
        if sockets:
            return sockets
    raise InlayError("port_unavailable", holder=holder_of(PORTS[0]))


def _bind(address: str, port: int) -> socket.socket | None:
    """Bind one address; None where this machine hasn't got it (no IPv6).

    Raises:
        OSError: the port is taken.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address, port))
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        if family is socket.AF_INET6 and error.errno in _NO_SUCH_ADDRESS:
            return None
        raise
    return bound


_NO_SUCH_ADDRESS: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

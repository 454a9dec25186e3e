"""The channel's WebSocket, and the well-known address where an agent learns the portal's keys."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

from aiohttp import WSMsgType, web

from portal.addresses import address_of
from portal.channel.connection import Connection
from portal.key_sets import CHANNEL_PATH
from portal.rate_limits import limit_key
from protocol.codec import MAX_FRAME_BYTES
from protocol.loopback_ports import SUBPROTOCOL

if TYPE_CHECKING:
    from portal.channel.connection import ChannelParts

_LOG = logging.getLogger(__name__)
WELL_KNOWN: Final = "/.well-known/inlay"
_PER_ADDRESS: Final = 32
_PING_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 2.0


class ChannelServer:
    """Routes for agents."""

    def __init__(self, parts: ChannelParts) -> None:
        self._parts = parts
        self._connections: Counter[str] = Counter()
        self._open: set[web.WebSocketResponse] = set()

    def add_routes(self, app: web.Application) -> None:
        """Add the routes, and the end of all connections when the application stops."""
        app.router.add_get(CHANNEL_PATH, self._channel)
        app.router.add_get(WELL_KNOWN, self._well_known)
        app.on_shutdown.append(self._shut_down)

    async def _well_known(self, _request: web.Request) -> web.Response:
        body = await self._parts.key_sets.well_known()
        return web.json_response(body, headers={"Cache-Control": "no-store"})

    async def _channel(self, request: web.Request) -> web.StreamResponse:
        address = limit_key(address_of(request))
        # an agent is no web page: a browser always sends an Origin with a WebSocket
        if "Origin" in request.headers:
            return web.Response(status=403)
        if self._connections[address] >= _PER_ADDRESS:
            return web.Response(status=503)
        socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,),
            heartbeat=_PING_SECONDS,
            max_msg_size=MAX_FRAME_BYTES,
            timeout=_CLOSE_SECONDS,
            compress=False,
        )
        if not socket.can_prepare(request).ok:
            return web.Response(status=426, headers={"Upgrade": "websocket"})
        await socket.prepare(request)
        self._connections[address] += 1
        self._open.add(socket)
        try:
            await self._serve(socket, address)
        finally:
            self._open.discard(socket)
            self._connections -= Counter({address: 1})
            await socket.close()
        return socket

    async def _serve(self, socket: web.WebSocketResponse, address: str) -> None:
        async def receive() -> bytes | str | None:
            message = await socket.receive()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                data: bytes | str = message.data
                return data
            return None

        async def send(frame: bytes) -> None:
            await socket.send_str(frame.decode())

        async def end() -> None:
            await socket.close()

        try:
            await Connection(self._parts, address, send, end).run(receive)
        except ConnectionError:
            _LOG.debug("connection from %s lost", address)

    async def _shut_down(self, _app: web.Application) -> None:
        for socket in list(self._open):
            await socket.close(code=1001)

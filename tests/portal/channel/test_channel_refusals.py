"""The channel's socket: what it refuses before an order is spoken of."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import WSMsgType, WSServerHandshakeError

from portal.channel import connection, server
from protocol import codec, jose, keyset
from protocol.errors import InlayError
from protocol.messages import ClaimParams, MessageParams, PublicJwk

if TYPE_CHECKING:
    from aiohttp import ClientWebSocketResponse

    from tests.support.portal_kit import Kit

_PATH = "/inlay/channel"


async def _socket(kit: Kit, **headers: str) -> ClientWebSocketResponse:
    return await kit.client.ws_connect(kit.server.make_url(_PATH), headers=headers)


async def _answer(socket: ClientWebSocketResponse) -> dict[str, Any]:
    async with asyncio.timeout(5):
        message = await socket.receive()
    assert message.type is WSMsgType.TEXT, message
    answer: dict[str, Any] = json.loads(message.data)
    return answer


async def _closed(socket: ClientWebSocketResponse) -> None:
    async with asyncio.timeout(10):
        message = await socket.receive()
    assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING)


@pytest.mark.parametrize("origin", ["https://portal.test", "https://evil.test", "null"])
async def test_no_web_page(kit: Kit, origin: str) -> None:
    """A browser always sends an Origin; an agent never does."""
    with pytest.raises(WSServerHandshakeError) as caught:
        await _socket(kit, Origin=origin)
    assert caught.value.status == 403


async def test_no_plain_request(kit: Kit) -> None:
    """A GET without an upgrade."""
    async with kit.client.get(kit.server.make_url(_PATH)) as response:
        assert response.status == 426


_HELLO = {"jsonrpc": "2.0", "id": 1, "method": "hello", "params": {"versions": [1]}}


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("not json", "frame_not_json"),
        ("[]", "frame_invalid"),
        ("[" * 40, "frame_too_deep"),
        (json.dumps({**_HELLO, "surprise": 1}), "frame_invalid"),
        (json.dumps({**_HELLO, "params": {"versions": [1], "name": "x"}}), "params_invalid"),
        (json.dumps({**_HELLO, "params": {"versions": [99]}}), "version_unsupported"),
        (json.dumps({**_HELLO, "method": "claim", "params": {"claim": "a.b.c"}}), "wrong_state"),
        (json.dumps({**_HELLO, "method": "reboot"}), "method_unknown"),
        ('{"jsonrpc":"2.0","id":1,"id":2,"method":"hello"}', "frame_invalid"),
    ],
)
async def test_bad_first_frames(kit: Kit, frame: str, code: str) -> None:
    """Refused with the cause, and closed."""
    socket = await _socket(kit)
    await socket.send_str(frame)
    answer = await _answer(socket)
    assert answer["error"]["data"]["error"] == code
    await _closed(socket)


async def test_a_frame_that_is_too_large(kit: Kit) -> None:
    """The socket ends; nothing of the frame is kept."""
    socket = await _socket(kit)
    await socket.send_str("x" * (codec.MAX_FRAME_BYTES + 1))
    await _closed(socket)


async def test_silence(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds a connection without speaking."""
    monkeypatch.setattr(connection, "FIRST_FRAME_SECONDS", 0.05)
    await _closed(await _socket(kit))


async def test_connections_of_one_address(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit, and room again when one ends."""
    monkeypatch.setattr(server, "_PER_ADDRESS", 2)
    sockets = [await _socket(kit), await _socket(kit)]
    with pytest.raises(WSServerHandshakeError) as caught:
        await _socket(kit)
    assert caught.value.status == 503
    for socket in sockets:
        await socket.close()
    await (await kit.agent()).close()


async def test_nothing_of_an_order_before_the_claim(kit: Kit) -> None:
    """Messages come after a claim or resume."""
    agent = await kit.agent()
    with pytest.raises(InlayError):
        await agent.call("message", MessageParams(message="a.b.c"))


async def test_five_wrong_claims_end_the_connection(kit: Kit) -> None:
    """Guessing costs a connection each time."""
    agent = await kit.agent()
    for _ in range(5):
        with pytest.raises(InlayError):
            await agent.claim("A" * 22)
    await agent.closed(seconds=5)


async def test_a_fault_of_the_portal_is_internal(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """No text of an exception leaves the portal."""

    async def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    agent = await kit.agent()
    monkeypatch.setattr(kit.portal.channel.claims, "claim", broken)
    with pytest.raises(InlayError) as caught:
        await agent.call("claim", ClaimParams(claim="a.b.c"))
    assert caught.value.code == "internal"
    await agent.closed(seconds=5)


async def test_well_known(kit: Kit) -> None:
    """The key set verifies under the root key that stands beside it, whose fingerprint the help page shows."""
    async with kit.client.get(kit.server.make_url("/.well-known/inlay")) as response:
        body = await response.json()
    assert set(body) == {"key_set", "root_key"}
    root = PublicJwk(**body["root_key"])
    assert jose.fingerprint(root) == kit.services.info.fingerprint
    key_set = keyset.verify(body["key_set"], root=root, portal="portal.test", now=kit.clock(), last_version=0)
    assert key_set.channel_path == _PATH


@pytest.mark.parametrize(
    ("path", "kind"), [("/ca/inlay.crl", "application/pkix-crl"), ("/ca/inlay.cer", "application/pkix-cert")]
)
async def test_ca_files(kit: Kit, path: str, kind: str) -> None:
    """CRL and CA certificate stand where certificates say."""
    async with kit.client.get(kit.server.make_url(path)) as response:
        assert (response.status, response.content_type) == (200, kind)
        assert (await response.read())[:1] == b"\x30"

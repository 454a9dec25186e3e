"""The loopback server: who may open a WebSocket at all."""

from __future__ import annotations

import asyncio
import json
import os
import socket

import pytest

from agent import server
from protocol.errors import InlayError
from protocol.loopback_ports import PORTS
from tests.support.agent_parts import AgentParts
from tests.support.fake_portal import FakePortal


async def status(port: int, *headers: str, path: str = "/inlay", address: str = "127.0.0.1") -> int:
    """Send a request as raw as an attacker could; the status of the answer."""
    reader, writer = await asyncio.open_connection(address, port)
    lines = [f"GET {path} HTTP/1.1", *headers, "", ""]
    writer.write("\r\n".join(lines).encode("latin-1"))
    await writer.drain()
    line = await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    return int(line.split()[1])


UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


PROTOCOL = "Sec-WebSocket-Protocol: inlay.v1"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:{port}", 101),
        ("localhost:{port}", 101),
        ("[::1]:{port}", 101),
        ("127.0.0.1", 403),
        ("localhost", 403),
        ("LOCALHOST:{port}", 403),
        ("127.0.0.1:1", 403),
        ("127.0.0.1:{port}.evil.test", 403),
        ("127.0.0.1.evil.test:{port}", 403),
        ("evil.test:{port}", 403),
        ("evil.test", 403),
        ("0.0.0.0:{port}", 403),
        ("[::]:{port}", 403),
        ("127.1:{port}", 403),
        ("2130706433:{port}", 403),
        ("localhost.:{port}", 403),
    ],
)
async def test_host_is_one_of_three_texts(
    loopback: server.LoopbackServer, portal: FakePortal, host: str, expected: int
) -> None:
    headers = (f"Host: {host.format(port=loopback.port)}", f"Origin: {portal.origin}", *UPGRADE, PROTOCOL)
    assert await status(loopback.port, *headers) == expected


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://{portal}", 101),
        (None, 403),
        ("null", 403),
        ("http://{portal}", 403),
        ("https://localhost", 403),
        ("https://localhost:1", 403),
        ("https://evil.test", 403),
        ("https://{portal}.evil.test", 400),
        ("https://evil.test#{portal}", 400),
        ("https://{portal}/", 400),
        ("https://{portal}/path", 400),
        ("https://user@{portal}", 400),
        ("HTTPS://{portal}", 400),
        ("https://LOCALHOST:{port}", 400),
        ("https://xn--lcalhost-54a:{port}", 403),
        ("https://l\u043ecalhost:{port}", 400),
        ("file://", 400),
        ("chrome-extension://abcdefghijklmnop", 403),
        ("https://", 400),
        ("", 400),
        ("https://{portal} https://{portal}", 400),
        ("*", 400),
        ("https://[::1", 400),
        ("https://localhost:99999", 400),
        ("https://" + "a" * 400, 400),
    ],
)
async def test_origin_is_a_trusted_portals(
    loopback: server.LoopbackServer, portal: FakePortal, origin: str | None, expected: int
) -> None:
    headers = [f"Host: 127.0.0.1:{loopback.port}", *UPGRADE, PROTOCOL]
    if origin is not None:
        text = origin.format(portal=portal.portal, port=portal.portal.partition(":")[2])
        headers.append(f"Origin: {text.encode().decode('latin-1')}")
    assert await status(loopback.port, *headers) == expected


async def test_headers_twice_and_headers_missing_are_malformed(
    loopback: server.LoopbackServer, portal: FakePortal
) -> None:
    host, origin = f"Host: 127.0.0.1:{loopback.port}", f"Origin: {portal.origin}"
    rest = (*UPGRADE, PROTOCOL)
    assert await status(loopback.port, host, host, origin, *rest) == 400
    assert await status(loopback.port, host, origin, origin, *rest) == 400
    assert await status(loopback.port, host, origin, "Origin: https://evil.test", *rest) == 400
    assert await status(loopback.port, origin, *rest) == 400
    assert await status(loopback.port, host, origin, *UPGRADE) == 400
    assert await status(loopback.port, host, origin, *rest, "Broken\x00Header: x") == 400
    assert await status(loopback.port, host, origin, "X: " + "y" * 20_000) == 400


async def test_the_well_known_route_says_versions_and_no_more(loopback: server.LoopbackServer) -> None:
    host = f"Host: 127.0.0.1:{loopback.port}"
    reader, writer = await asyncio.open_connection("127.0.0.1", loopback.port)
    writer.write(f"GET /.well-known/inlay HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    assert json.loads(body) == {"inlay": [1]}
    assert "access-control" not in head.lower()
    assert "aiohttp" not in head.lower()
    assert await status(loopback.port, "Host: evil.test", path="/.well-known/inlay") == 403
    assert await status(loopback.port, host, path="/anything") == 404


async def test_a_preflight_gets_no_permission(loopback: server.LoopbackServer, portal: FakePortal) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", loopback.port)
    lines = (
        "OPTIONS /inlay HTTP/1.1",
        f"Host: 127.0.0.1:{loopback.port}",
        f"Origin: {portal.origin}",
        "Access-Control-Request-Method: GET",
        "Connection: close",
    )
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = (await reader.read()).decode().lower()
    writer.close()
    assert answer.startswith("http/1.1 405")
    assert "access-control" not in answer


async def test_another_users_connection_is_sent_on(
    loopback: server.LoopbackServer, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "user_of", lambda _peer, _own: os.geteuid() + 1)
    headers = (f"Host: 127.0.0.1:{loopback.port}", f"Origin: {portal.origin}", *UPGRADE, PROTOCOL)
    assert await status(loopback.port, *headers) == 503


async def test_a_connection_of_nobody_known_is_sent_on(
    loopback: server.LoopbackServer, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "user_of", lambda _peer, _own: None)
    headers = (f"Host: 127.0.0.1:{loopback.port}", f"Origin: {portal.origin}", *UPGRADE, PROTOCOL)
    assert await status(loopback.port, *headers) == 503


async def test_listens_on_loopback_alone(loopback: server.LoopbackServer) -> None:
    assert loopback.addresses()
    assert set(loopback.addresses()) <= {"127.0.0.1", "::1"}


async def test_takes_the_next_port_and_names_who_holds_the_last(
    agent: AgentParts, loopback: server.LoopbackServer, portal: FakePortal
) -> None:
    assert loopback.port == PORTS[0]
    taken = []
    try:
        for port in PORTS[1:]:
            item = socket.socket()
            item.bind(("127.0.0.1", port))
            item.listen()
            taken.append(item)
        with pytest.raises(InlayError) as caught:
            server._bind_first_free()
        assert caught.value.code == "port_unavailable"
        assert f"process {os.getpid()}" in str(caught.value.fields["holder"])
        taken.pop(3).close()
        sockets = server._bind_first_free()
        assert sockets[0].getsockname()[1] == PORTS[4]
        for item in sockets:
            item.close()
    finally:
        for item in taken:
            item.close()

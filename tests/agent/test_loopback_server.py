"""The loopback server: who may open a WebSocket at all, and what a page can do on it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from agent import page_connection, server
from agent.environment import LastEnvironment
from agent.handlers.registry import PAGE
from agent.pcsc.reader_events import Look, ReaderLook
from agent.reader_watch import ReaderWatch
from agent.readers import PcscReaders
from protocol import jose
from protocol.errors import InlayError
from protocol.loopback_ports import PORTS
from protocol.messages import Binding, Ticket
from tests.support.agent_parts import CODE, AgentParts
from tests.support.fake_portal import FakePortal
from tests.support.processes import wait_until

V1 = Subprotocol("inlay.v1")


@pytest.fixture
async def loopback(agent: AgentParts) -> AsyncIterator[server.LoopbackServer]:
    services = agent.services()
    running = server.LoopbackServer(
        services, PAGE, lambda: [entry.origin for entry in agent.trust.entries()], LastEnvironment()
    )
    await running.listen()
    yield running
    await running.close()


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


# --- frames


async def page(loopback: server.LoopbackServer, portal: FakePortal) -> ClientConnection:
    return await connect(
        f"ws://127.0.0.1:{loopback.port}/inlay", origin=Origin(portal.origin), subprotocols=[V1], proxy=None
    )


async def ask(socket_: ClientConnection, method: str, params: object, id_: int = 1) -> dict[str, object]:
    await socket_.send(json.dumps({"jsonrpc": "2.0", "id": id_, "method": method, "params": params}))
    answer: dict[str, object] = json.loads(await socket_.recv())
    return answer


async def closed(socket_: ClientConnection) -> list[dict[str, object]]:
    """Everything that still comes before the connection ends."""
    found = []
    try:
        async with asyncio.timeout(10):
            while True:
                found.append(json.loads(await socket_.recv()))
    except ConnectionClosed:
        return found


HELLO = {"versions": [1]}


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("not json", "frame_not_json"),
        ("{}", "frame_invalid"),
        ('{"jsonrpc":"2.0","id":1,"method":"open","params":{}}', "wrong_state"),
        ('{"jsonrpc":"2.0","id":1,"method":"shell","params":{}}', "method_unknown"),
        ('{"jsonrpc":"2.0","id":1,"method":"hello","params":{"versions":[1],"x":1}}', "params_invalid"),
        ('{"jsonrpc":"2.0","id":1,"method":"hello","params":{"versions":[7]}}', "version_unsupported"),
        ("[" * 40 + "]" * 40, "frame_too_deep"),
    ],
)
async def test_the_first_failure_closes(
    loopback: server.LoopbackServer, portal: FakePortal, frame: str, code: str
) -> None:
    socket_ = await page(loopback, portal)
    await socket_.send(frame)
    [answer] = await closed(socket_)
    assert answer["error"]["data"]["error"] == code  # type: ignore[index]


async def test_a_frame_that_is_too_large_or_binary_closes(
    loopback: server.LoopbackServer, portal: FakePortal
) -> None:
    for frame in ("x" * 70_000, b"{}"):
        socket_ = await page(loopback, portal)
        await socket_.send(frame)
        assert await closed(socket_) == []


async def test_a_page_that_says_nothing_is_closed(
    loopback: server.LoopbackServer, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_connection, "FIRST_FRAME_SECONDS", 0.1)
    monkeypatch.setattr(page_connection, "IDLE_SECONDS", 0.1)
    assert await closed(await page(loopback, portal)) == []
    greeted = await page(loopback, portal)
    await ask(greeted, "hello", HELLO)
    assert await closed(greeted) == []


async def test_a_page_has_so_many_connections_and_no_more(
    loopback: server.LoopbackServer, portal: FakePortal
) -> None:
    sockets = [await page(loopback, portal) for _ in range(server.MAX_CONNECTIONS_PER_ORIGIN)]
    with pytest.raises(InvalidStatus) as caught:
        await page(loopback, portal)
    assert caught.value.response.status_code == 429
    for socket_ in sockets:
        await socket_.close()


async def test_codes_come_so_often_and_no_more(
    loopback: server.LoopbackServer, agent: AgentParts, portal: FakePortal
) -> None:
    portal.faults.claim = InlayError("code_unknown")
    answers = []
    for _ in range(server.OPENS_PER_MINUTE + 1):
        socket_ = await page(loopback, portal)
        await ask(socket_, "hello", HELLO)
        answers.append(await ask(socket_, "open", {"portal": portal.portal, "code": CODE}, 2))
        await closed(socket_)
    assert all("result" in answer for answer in answers[:-1])
    assert answers[-1]["error"]["data"]["error"] == "rate_limited"  # type: ignore[index]


async def test_reading_needs_a_ticket(loopback: server.LoopbackServer, portal: FakePortal) -> None:
    socket_ = await page(loopback, portal)
    await ask(socket_, "hello", HELLO)
    answer = await ask(socket_, "list_readers", {"ticket": "a.b.c"}, 2)
    assert answer["error"]["data"]["error"] == "not_authenticated"  # type: ignore[index]
    assert await closed(socket_) == []


async def test_watching_needs_a_ticket(loopback: server.LoopbackServer, portal: FakePortal) -> None:
    socket_ = await page(loopback, portal)
    await ask(socket_, "hello", HELLO)
    answer = await ask(socket_, "watch_readers", {"ticket": "a.b.c"}, 2)
    assert answer["error"]["data"]["error"] == "not_authenticated"  # type: ignore[index]
    assert await closed(socket_) == []


class Shelf:
    """A monitor whose readers a test moves."""

    def __init__(self) -> None:
        self.tell: Callable[[Look], None] = lambda _look: None
        self.running = 0

    def __call__(self, tell: Callable[[Look], None]) -> Shelf:
        self.tell = tell
        return self

    def start(self) -> None:
        self.running += 1
        self.tell(Look(readers=(ReaderLook("A", present=False),)))

    def stop(self) -> None:
        self.running -= 1


@pytest.fixture
async def shelf(loopback: server.LoopbackServer, agent: AgentParts) -> Shelf:
    shelf = Shelf()
    readers = PcscReaders(ReaderWatch(shelf))
    loopback._services = dataclasses.replace(agent.services(), readers=readers)
    return shelf


def ticket_for(portal: FakePortal, seconds: int) -> str:
    now = int(time.time())
    ticket = Ticket(
        iss=portal.portal, aud="inlay", origin=portal.origin, level="read", iat=now, exp=now + seconds
    )
    return portal.key.sign(jose.TICKET, ticket)


async def known_portal(loopback: server.LoopbackServer, portal: FakePortal) -> None:
    """The agent learns a portal's keys with the first order."""
    socket_ = await page(loopback, portal)
    await ask(socket_, "hello", HELLO)
    await ask(socket_, "open", {"portal": portal.portal, "code": CODE}, 2)
    await closed(socket_)


async def test_readers_are_told_live_until_the_ticket_runs_out(
    loopback: server.LoopbackServer, shelf: Shelf, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_connection, "IDLE_SECONDS", 0.1)
    await known_portal(loopback, portal)
    socket_ = await page(loopback, portal)
    await ask(socket_, "hello", HELLO)
    ticket = ticket_for(portal, 3)
    answer = await ask(socket_, "watch_readers", {"ticket": ticket}, 2)
    assert answer["result"] == {"readers": [{"name": "A", "card_present": False}], "service": True}
    card = ReaderLook("A", present=True, atr=b"\x3b\x80", count=1)
    shelf.tell(Look(readers=(card,)))
    told = json.loads(await asyncio.wait_for(socket_.recv(), 5))
    there = {"name": "A", "card_present": True, "atr": "3B80", "insertions": 1}
    assert told == {
        "jsonrpc": "2.0",
        "method": "readers",
        "params": {"readers": [there], "service": True},
    }
    shelf.tell(Look("pcsc_no_service"))
    assert json.loads(await asyncio.wait_for(socket_.recv(), 5))["params"] == {
        "readers": [],
        "service": False,
    }
    [last] = await closed(socket_)
    assert last["params"] == {"readers": [], "service": False, "last": True}
    await asyncio.to_thread(wait_until, lambda: shelf.running == 0, "no monitor without a page")


async def test_a_page_that_goes_away_is_followed_no_more(
    loopback: server.LoopbackServer, shelf: Shelf, portal: FakePortal
) -> None:
    await known_portal(loopback, portal)
    socket_ = await page(loopback, portal)
    await ask(socket_, "hello", HELLO)
    await ask(socket_, "watch_readers", {"ticket": ticket_for(portal, 60)}, 2)
    await ask(socket_, "watch_readers", {"ticket": ticket_for(portal, 60)}, 3)
    assert shelf.running == 1
    await socket_.close()
    await asyncio.to_thread(wait_until, lambda: shelf.running == 0, "no monitor without a page")


async def test_a_code_for_another_portal_is_refused(
    loopback: server.LoopbackServer, portal: FakePortal
) -> None:
    socket_ = await page(loopback, portal)
    await ask(socket_, "hello", HELLO)
    answer = await ask(socket_, "open", {"portal": "other.test", "code": CODE}, 2)
    assert answer["error"]["data"]["error"] == "origin_refused"  # type: ignore[index]


async def test_a_whole_order_over_the_socket(
    loopback: server.LoopbackServer, agent: AgentParts, portal: FakePortal
) -> None:
    portal.binding = Binding.COMPLETION
    socket_ = await page(loopback, portal)
    assert (await ask(socket_, "hello", HELLO))["result"] == {"version": 1, "versions": [1]}
    assert (await ask(socket_, "open", {"portal": portal.portal, "code": CODE}, 2))["result"] == {
        "accepted": True
    }
    told = await closed(socket_)
    assert told[-1]["method"] == "ended"
    assert told[-1]["params"] == {"outcome": "finished"}
    secrets = [item["params"] for item in told if item["method"] == "completion"]
    assert secrets == [{"completion": portal.orders[CODE].order.completion}]


async def test_the_number_never_leaves_by_the_page_socket(
    loopback: server.LoopbackServer, agent: AgentParts, portal: FakePortal
) -> None:
    socket_ = await page(loopback, portal)
    await ask(socket_, "hello", HELLO)
    await ask(socket_, "open", {"portal": portal.portal, "code": CODE}, 2)
    told = await closed(socket_)
    number = agent.windows.opened[0].number
    assert number is not None
    assert all(number not in json.dumps(item["params"]) for item in told)
    assert not any(item["method"] == "completion" for item in told)


async def test_a_page_that_goes_away_does_not_end_the_order(
    loopback: server.LoopbackServer, agent: AgentParts, portal: FakePortal
) -> None:
    socket_ = await page(loopback, portal)
    await ask(socket_, "hello", HELLO)
    await ask(socket_, "open", {"portal": portal.portal, "code": CODE}, 2)
    await socket_.close()
    at = await portal.claimed(CODE)
    await at.until(lambda order: order.receipt is not None)

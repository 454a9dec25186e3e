"""What a page can do on the loopback socket: frames, limits, readers told live, and codes."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Callable

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from agent import page_connection, server
from agent.pcsc.reader_events import Look, ReaderLook
from agent.reader_watch import ReaderWatch
from agent.readers import PcscReaders
from protocol import jose
from protocol.errors import InlayError
from protocol.messages import Binding, Ticket
from tests.support.agent_parts import CODE, AgentParts
from tests.support.fake_portal import FakePortal
from tests.support.processes import wait_until

V1 = Subprotocol("inlay.v1")


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
    readers = PcscReaders(ReaderWatch(shelf), agent.folders.machine)
    loopback._services = dataclasses.replace(agent.services(), readers=readers)
    return shelf


async def test_checking_the_computer_needs_a_ticket(
    loopback: server.LoopbackServer, portal: FakePortal
) -> None:
    socket_ = await page(loopback, portal)
    await ask(socket_, "hello", HELLO)
    answer = await ask(socket_, "check_computer", {"ticket": "a.b.c"}, 2)
    assert answer["error"]["data"]["error"] == "not_authenticated"  # type: ignore[index]
    assert await closed(socket_) == []


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

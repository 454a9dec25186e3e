"""Attacks on the machine itself: foreign pages and programs at the agent's port, links and folders made by others.

Each attack is one function. It fails; and it gets through when exactly the defence that its test names is taken out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from agent import server, trust
from agent.desktop import link_handler, register
from agent.desktop.display_text import clean
from agent.environment import LastEnvironment
from agent.handlers.registry import PAGE
from agent.trust import TrustEntry, TrustStore
from protocol import link
from protocol.errors import InlayError
from protocol.messages import Account
from tests.agent.desktop.fake_daemon import FakeDaemon
from tests.support.agent_parts import CODE, AgentParts, running_agent
from tests.support.attack_stage import asked_or_ended, outcome
from tests.support.fake_portal import FakePortal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from pathlib import Path

    from tests.support.certificates import ThrowAwayCA

EVIL = "https://evil.test"


class Machine(NamedTuple):
    """A person's machine: an agent that trusts a portal, and its loopback server."""

    portal: FakePortal
    agent: AgentParts
    loopback: server.LoopbackServer


@asynccontextmanager
async def running_machine(home: Path, https_ca: ThrowAwayCA) -> AsyncIterator[Machine]:
    async with FakePortal(https_ca) as portal, running_agent(home) as agent:
        agent.trust_portal(portal)
        services = agent.services()
        loopback = server.LoopbackServer(
            services, PAGE, lambda: [entry.origin for entry in agent.trust.entries()], LastEnvironment()
        )
        await loopback.listen()
        yield Machine(portal, agent, loopback)
        await loopback.close()


@pytest.fixture
async def machine(tmp_path: Path, https_ca: ThrowAwayCA, no_keystore: None) -> AsyncIterator[Machine]:
    async with running_machine(tmp_path / "home", https_ca) as running:
        yield running


# --- a page of another origin at the loopback socket


async def _hand_over_code(machine: Machine, origin: str) -> bool:
    """A page of that origin hands over a code of the trusted portal. Whether a window asks the person."""
    address = f"ws://127.0.0.1:{machine.loopback.port}/inlay"
    try:
        page = await connect(
            address, origin=Origin(origin), subprotocols=[Subprotocol("inlay.v1")], proxy=None
        )
    except InvalidStatus:
        return False
    async with page:
        try:
            for number, (method, params) in enumerate(
                [("hello", {"versions": [1]}), ("open", {"portal": machine.portal.portal, "code": CODE})]
            ):
                frame = {"jsonrpc": "2.0", "id": number + 1, "method": method, "params": params}
                await page.send(json.dumps(frame))
                if "error" in json.loads(await page.recv()):
                    return False
        except ConnectionClosed:
            return False
        async with asyncio.timeout(20):
            await machine.agent.windows.first()
        return True


async def test_a_page_of_another_origin_fails(machine: Machine) -> None:
    assert not await _hand_over_code(machine, EVIL)
    assert machine.portal.connections == 0


async def test_a_page_of_another_origin_gets_through_without_the_origins_check(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first(_values: Sequence[str], trusted: Iterable[str]) -> str:
        return next(iter(trusted))

    monkeypatch.setattr(server, "check_origin", first)
    assert await _hand_over_code(machine, EVIL)


# --- DNS rebinding: a name of the attacker's that leads to 127.0.0.1


async def _rebind(machine: Machine) -> bool:
    """A page at http://evil.test:PORT asks its own origin, which is this machine by now. Whether it finds Inlay."""
    reader, writer = await asyncio.open_connection("127.0.0.1", machine.loopback.port)
    host = f"evil.test:{machine.loopback.port}"
    writer.write(f"GET /.well-known/inlay HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return b'"inlay"' in answer


async def test_dns_rebinding_fails(machine: Machine) -> None:
    assert not await _rebind(machine)


async def test_dns_rebinding_gets_through_without_the_hosts_check(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "check_host", lambda _values, _port: None)
    assert await _rebind(machine)


# --- a program of another user at the loopback socket


def be_of_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent is another user's than this process, which connects: the kernel's own table says so."""
    other = os.geteuid() + 1
    monkeypatch.setattr(server, "os", SimpleNamespace(geteuid=lambda: other))


async def test_another_users_program_fails(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    be_of_another_user(monkeypatch)
    assert not await _hand_over_code(machine, machine.portal.origin)


async def test_another_users_program_gets_through_without_the_peers_check(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_of_another_user(monkeypatch)
    monkeypatch.setattr(server, "user_of", lambda _peer, _own: os.geteuid() + 1)
    assert await _hand_over_code(machine, machine.portal.origin)


# --- trust that another user put there


def _plant_trust(agent: AgentParts, how: str) -> list[str]:
    """Rights that are too wide let another user write. The portals that are trusted then."""
    folder = agent.folders.config / "trust.d"
    [path] = folder.glob("*.json")
    if how == "file":
        path.chmod(0o666)
    elif how == "folder":
        folder.chmod(0o777)
    else:
        elsewhere = agent.folders.state / "planted.json"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
    return [entry.portal for entry in agent.trust.entries()]


@pytest.mark.parametrize("how", ["file", "folder", "link"])
async def test_trust_that_others_could_have_written_does_not_count(machine: Machine, how: str) -> None:
    assert _plant_trust(machine.agent, how) == []


@pytest.mark.parametrize("how", ["file", "folder", "link"])
async def test_trust_of_others_gets_through_without_the_look_at_its_rights(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(trust, "read_users_file", lambda path: path.read_bytes())
    assert _plant_trust(machine.agent, how) == [machine.portal.portal]


# --- an account's name written like somebody else's id


async def _look_like_victim(machine: Machine) -> str:
    """Mallory's display name ends in Vera's id, and padding that pushes her own out of sight. What is shown first."""
    name = "vera@example.org" + "\u3164" * 90 + " " * 90
    account = Account(id="7", name=name, user_id="mallory@example.org")
    machine.portal.faults.order = lambda order: msgspec.structs.replace(order, account=account)
    ending = machine.agent.submit(machine.portal)
    window = await machine.agent.windows.first()
    assert window.prompt is not None
    await outcome(ending)
    return clean(window.prompt.account)


async def test_an_account_that_looks_like_another_is_told_by_its_id(machine: Machine) -> None:
    assert (await _look_like_victim(machine)).startswith("mallory@example.org (vera@example.org?")


# --- connections that say nothing, or half of something


async def _left_open(machine: Machine, said: bytes) -> bool:
    """Whether a connection on which so much was said is still open after the time for a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", machine.loopback.port)
    writer.write(said)
    try:
        async with asyncio.timeout(10):
            return await reader.read() == b"never"
    except TimeoutError:
        return True
    finally:
        writer.close()


@pytest.mark.parametrize("said", [b"", b"GET /inlay HTTP/1.1\r\nHost: 127"])
async def test_half_open_connections_are_closed(
    tmp_path: Path,
    https_ca: ThrowAwayCA,
    no_keystore: None,
    monkeypatch: pytest.MonkeyPatch,
    said: bytes,
) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.3)
    async with running_machine(tmp_path / "home", https_ca) as machine:
        assert not await _left_open(machine, said)


async def test_nobody_uses_up_the_agents_descriptors(machine: Machine) -> None:
    """Another program opens connections without end; who is let in is served, and all are once it stops."""
    crowd = [
        await asyncio.open_connection("127.0.0.1", machine.loopback.port)
        for _ in range(server.MAX_CONNECTIONS)
    ]
    reader, writer = await asyncio.open_connection("127.0.0.1", machine.loopback.port)
    assert await reader.read() == b""
    writer.close()
    for _, writer in crowd:
        writer.close()
        await writer.wait_closed()
    assert await _hand_over_code(machine, machine.portal.origin)


# --- a link that chooses the server


async def _choose_server(machine: Machine, https_ca: ThrowAwayCA) -> int:
    """A link names the attacker's own portal. How often the agent calls there."""
    async with FakePortal(https_ca) as attackers:
        with contextlib.suppress(InlayError):
            await asked_or_ended(machine.agent, machine.agent.submit(attackers))
        return attackers.connections


async def test_a_link_that_chooses_the_server_fails(machine: Machine, https_ca: ThrowAwayCA) -> None:
    assert await _choose_server(machine, https_ca) == 0
    assert machine.agent.windows.opened == []


async def test_a_link_that_chooses_the_server_gets_through_without_the_trust_store(
    machine: Machine, https_ca: ThrowAwayCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = machine.agent.trust.find(machine.portal.portal)

    def believe(_self: TrustStore, portal: str) -> TrustEntry:
        return known._replace(portal=portal)

    monkeypatch.setattr(TrustStore, "find", believe)
    assert await _choose_server(machine, https_ca) == 1


# --- a link that carries more than portal and code


def _carry_more(extra: str) -> list[str]:
    """A link with something behind its code. The links that reach the agent."""
    with FakeDaemon({"result": {"accepted": True}}) as daemon:
        link_handler.open_link(["--", link.build("portal.test", CODE) + extra])
        return [request["params"]["link"] for request in daemon.requests]


MORE = ["?debug=1", "&url=evil.test", "#x", " --config=x", "\n--json", ";id", "%20-x", "\x00", "/../.."]


@pytest.mark.parametrize("extra", MORE)
def test_a_link_that_carries_more_than_portal_and_code_fails(
    throwaway_home: Path, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    assert _carry_more(extra) == []


def test_a_link_that_carries_more_gets_through_without_the_grammar(
    throwaway_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "is_code", lambda text: len(text) >= link.CODE_LENGTH)
    assert _carry_more("?debug=1") == [link.build("portal.test", CODE) + "?debug=1"]


# --- `inlay open` run in a folder of the attacker's


def _open_in_hostile_folder(folder: Path, launcher: str) -> list[str]:
    """A browser starts the handler in its download folder. The attacker's modules that were run."""
    downloads, ran = folder / "downloads", folder / "ran"
    trap = f"open({str(ran)!r}, 'a').write(__name__ + '\\n')\n"
    for package in ("agent", "protocol"):
        (downloads / package).mkdir(parents=True)
        (downloads / package / "__init__.py").write_text(trap)
    (downloads / "json.py").write_text(trap)
    program = folder / "inlay"
    program.write_text(launcher)
    program.chmod(0o755)
    with FakeDaemon({"result": {"accepted": True}}):
        subprocess.run(
            [program, "open", "--", link.build("portal.test", CODE)],
            cwd=downloads,
            env={**os.environ, "PYTHONPATH": str(downloads)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
    return ran.read_text().split() if ran.exists() else []


def test_a_hostile_working_directory_fails(throwaway_home: Path, tmp_path: Path) -> None:
    [text] = [
        text for path, (text, _) in register.expected_files().items() if path == register.launcher_path()
    ]
    assert _open_in_hostile_folder(tmp_path, text) == []


def test_a_hostile_working_directory_gets_through_without_isolation(
    throwaway_home: Path, tmp_path: Path
) -> None:
    [text] = [
        text for path, (text, _) in register.expected_files().items() if path == register.launcher_path()
    ]
    assert " -I" in text
    assert _open_in_hostile_folder(tmp_path, text.replace(" -I", "")) == ["agent"]

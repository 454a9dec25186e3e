"""Fixtures of the agent's core."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent import server
from agent.environment import LastEnvironment
from agent.handlers.registry import PAGE
from tests.support import token_readers
from tests.support.agent_parts import AgentParts, cheap_cards, running_agent, without_keystore
from tests.support.certificates import ThrowAwayCA
from tests.support.fake_portal import FakePortal
from tests.support.simulated_readers import SimulatedReaders


@pytest.fixture
def no_keystore(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a key store: level file."""
    without_keystore(monkeypatch)


@pytest.fixture
def readers() -> SimulatedReaders:
    """No reader yet."""
    return SimulatedReaders()


@pytest.fixture
async def portal(https_ca: ThrowAwayCA) -> AsyncIterator[FakePortal]:
    async with FakePortal(https_ca) as running:
        yield running


@pytest.fixture
async def agent(
    tmp_path: Path, portal: FakePortal, no_keystore: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AgentParts]:
    """A core that trusts the fake portal."""
    cheap_cards(monkeypatch)
    async with running_agent(tmp_path / "home") as parts:
        parts.trust_portal(portal)
        yield parts


@pytest.fixture
async def loopback(agent: AgentParts) -> AsyncIterator[server.LoopbackServer]:
    """Listens for pages of the portals that are trusted."""
    services = agent.services()
    running = server.LoopbackServer(
        services, PAGE, lambda: [entry.origin for entry in agent.trust.entries()], LastEnvironment()
    )
    await running.listen()
    yield running
    await running.close()


@pytest.fixture(scope="session")
def token_shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a module that does what a test plans, see ``tests.support.token_readers``."""
    folder = tmp_path_factory.mktemp("token-shim")
    token_readers.build(folder)
    return folder

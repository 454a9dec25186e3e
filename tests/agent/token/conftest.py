"""Fixtures of orders for cards by the driver *pkcs11*: SoftHSM 2 behind a shim, in one reader."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import token_readers
from tests.support.agent_parts import AgentParts
from tests.support.fake_portal import FakePortal
from tests.support.token_orders import processes_of, token_agent, token_serial
from tests.support.token_readers import TokenReaders


@pytest.fixture
def readers(tmp_path: Path, token_shim: Path, monkeypatch: pytest.MonkeyPatch) -> TokenReaders:
    """A reader whose token, a blank one, is in a store of this test's own."""
    return TokenReaders.with_a_store(tmp_path, token_shim, monkeypatch)


@pytest.fixture
async def serial(readers: TokenReaders) -> str:
    """The serial number of a token with a PIN, in the reader."""
    token_readers.initialise()
    return await token_serial()


@pytest.fixture
async def agent(tmp_path: Path, readers: TokenReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    """An agent with that reader, which leaves no process of the module behind."""
    async with token_agent(tmp_path / "home", readers, portal) as running:
        yield running
    assert processes_of(readers.folder / "shim.so") == []

"""Cards in the readers of a private pcscd: an active card, and where it is shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent import keys_system
from agent.card_places import CardPlaces
from agent.pcsc import scard
from agent.vsc import personalise
from agent.vsc.card import VirtualCard
from agent.vsc.store import CardStore
from tests.support.agent_parts import CHEAP
from tests.support.processes import wait_until

LASTING = ThreadPoolExecutor(1)
"""pcscd ends with the thread that started it (PR_SET_PDEATHSIG): this one lasts as long as the test run."""


@pytest.fixture
def card(tmp_path: Path) -> VirtualCard:
    return active_card(tmp_path)


def active_card(folder: Path) -> VirtualCard:
    secret = keys_system.open_device_secret("file", folder / "secret", allow_file=True)
    store = CardStore(folder / "cards", secret)
    made = personalise.create(
        store, label="Test", pin=bytearray(b"123456"), puk=bytearray(b"12345678"), cost=CHEAP
    )
    personalise.activate(made)
    return made


@pytest.fixture
async def places() -> AsyncIterator[CardPlaces]:
    running = CardPlaces()
    yield running
    await running.close()


@pytest.fixture(autouse=True)
def empty_readers(request: pytest.FixtureRequest) -> None:
    """pcscd looks every 400 ms: what an earlier test took out may still seem to be there."""
    if "pcscd" in request.fixturenames:
        request.getfixturevalue("pcscd")
        wait_until(lambda: not any(reader.present for reader in scard.list_readers()), "empty readers")

"""Fixtures of tests with real pcscd: a portal, and agents that have its readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.pcsc import scard
from portal.processes.context import FactorySecrets
from tests.support.agent_parts import PcscReadersOfATest, without_keystore
from tests.support.attack_stage import running_stage
from tests.support.fake_portal import FakePortal
from tests.support.processes import wait_until
from tests.support.virtual_cards import FACTORY_KEY, PUK, InReader, factory_card

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.support.attack_stage import Stage
    from tests.support.certificates import ThrowAwayCA
    from tests.support.pcscd import PrivatePcscd


@pytest.fixture
def no_keystore(monkeypatch: pytest.MonkeyPatch) -> None:
    without_keystore(monkeypatch)


@pytest.fixture
async def portal(https_ca: ThrowAwayCA) -> AsyncIterator[FakePortal]:
    """One that isn't ours."""
    async with FakePortal(https_ca) as running:
        yield running


@pytest.fixture
async def stage(
    tmp_path: Path, https_ca: ThrowAwayCA, pcscd: PrivatePcscd, no_keystore: None
) -> AsyncIterator[Stage]:
    """A real portal, and an agent with the readers of PC/SC, which are empty."""
    wait_until(lambda: not any(reader.present for reader in scard.list_readers()), "empty readers")
    async with running_stage(tmp_path, https_ca, PcscReadersOfATest()) as running:
        object.__setattr__(running.kit.portal.context, "factory", FactorySecrets(FACTORY_KEY, PUK))
        yield running


@pytest.fixture
def serial(tmp_path: Path, pcscd: PrivatePcscd, stage: Stage) -> Iterator[str]:
    """The serial number of a card from its maker, in the first reader."""
    card = factory_card(tmp_path)
    with InReader(card, pcscd.vpcd_ports[0]):
        wait_until(lambda: scard.list_readers()[0].present, "the card")
        yield card.details().serial

"""The stage of the attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.agent_parts import cheap_cards, without_keystore
from tests.support.attack_stage import Stage, running_stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.certificates import ThrowAwayCA


@pytest.fixture
def no_keystore(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines without a key store: level file; PINs that are cheap to check."""
    without_keystore(monkeypatch)
    cheap_cards(monkeypatch)


@pytest.fixture
async def stage(tmp_path: Path, https_ca: ThrowAwayCA, no_keystore: None) -> AsyncIterator[Stage]:
    """A real portal, two real agents, and a network that opens TLS."""
    async with running_stage(tmp_path, https_ca) as running:
        yield running

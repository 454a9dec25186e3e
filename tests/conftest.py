"""Fixtures for every test, and the rule that nothing is skipped unnoticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import isolation
from tests.support.pcscd import PrivatePcscd

if TYPE_CHECKING:
    from collections.abc import Iterator

isolation.enter()


@pytest.fixture(scope="session")
def pcscd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivatePcscd]:
    """A private pcscd with eight virtual slots, started once for the test run."""
    with PrivatePcscd(tmp_path_factory.mktemp("pcscd")) as running:
        yield running

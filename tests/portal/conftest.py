"""Fixtures of the portal's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.portal_kit import Kit, running_portal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    """A running portal."""
    async with running_portal(tmp_path) as running:
        yield running

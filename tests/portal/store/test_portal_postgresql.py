"""The same portal on PostgreSQL: whole orders, and the races that locks decide."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from portal.events import ChangeBus
from portal.store import audit
from portal.store.database import Database
from protocol.errors import InlayError
from protocol.messages import ClaimResult, Finished, Undo
from tests.portal.store.test_portal_migrations import check_up_and_down
from tests.support.portal_kit import P256, Kit, running_portal
from tests.support.postgresql import PrivatePostgresql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.interop


@pytest.fixture
def url(postgresql: PrivatePostgresql) -> str:
    """A fresh database; made outside the event loop."""
    return postgresql.fresh_database()


@pytest.fixture
async def kit(tmp_path: Path, url: str) -> AsyncIterator[Kit]:
    """A portal on a fresh database."""
    async with running_portal(tmp_path, database=url) as running:
        await running.set_options(**P256)
        yield running


async def test_migrations(url: str) -> None:
    """Up and down, without a difference to the tables."""
    database = Database(url, ChangeBus())
    await check_up_and_down(database)
    await database.close()


async def test_two_claims_at_once(kit: Kit) -> None:
    """One wins."""
    session = await kit.person()
    _, code = await kit.at_open(session)
    agents = [await kit.agent() for _ in range(6)]
    results = await asyncio.gather(*(agent.claim(code.code) for agent in agents), return_exceptions=True)
    assert sum(isinstance(result, ClaimResult) for result in results) == 1
    assert [error.code for error in results if isinstance(error, InlayError)] == ["code_used"] * 5


async def test_cancel_against_receipt(kit: Kit) -> None:
    """Whoever wins, device, page and CA agree."""
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    receipt = await agent.make_card()
    await asyncio.gather(kit.services.cancel(session, view.id), agent.say(receipt), return_exceptions=True)
    answer = await agent.hear()
    valid = await kit.valid_at_ca()
    assert isinstance(answer, Finished | Undo)
    assert len(valid) == (3 if isinstance(answer, Finished) else 0)


async def test_a_whole_order(kit: Kit) -> None:
    """From the start page to the card, with an unbroken audit log written by many at once."""
    session = await kit.person()
    others = await asyncio.gather(*(kit.person(f"user{number}@example.org") for number in range(4)))
    view, agent = await kit.bound_agent(session)
    await asyncio.gather(agent.complete(), *(kit.at_open(other) for other in others))
    assert (await kit.services.process(session, view.id)).step == "details"
    assert len(await kit.valid_at_ca()) == 3
    async with kit.database.read() as tx:
        assert await audit.first_fault(tx) is None

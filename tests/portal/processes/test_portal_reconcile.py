"""The reconciler and a CA that doesn't answer: asked until it does, and given up only on its word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, select

from portal.store.tables import CaIntent
from protocol.messages import Undo
from tests.support.databases import BACKENDS
from tests.support.portal_kit import P256, Kit, running_portal
from tests.support.unruly_ca import UnrulyCa

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

_DAYS = 3 * 86_400


async def _undone_with_open_intents(kit: Kit, ca: UnrulyCa) -> None:
    """An order whose first certificate the CA didn't answer for."""
    await kit.set_options(**P256)
    session = await kit.person()
    _, agent = await kit.bound_agent(session)
    assert agent.order is not None
    await agent.hear()
    ca.away = True
    await agent.say(agent.card.requests(agent.order))
    assert isinstance(await agent.hear(), Undo)


async def _states(kit: Kit) -> list[str]:
    async with kit.database.read() as tx:
        return list(await tx.scalars(select(CaIntent.state).order_by(CaIntent.request_id)))


async def test_a_ca_that_is_away_for_days(tmp_path: Path, database_url: str) -> None:
    """Nothing is given up while it doesn't answer; its word that it has none ends it."""
    ca = UnrulyCa()
    async with running_portal(tmp_path, ca=ca, database=database_url) as kit:
        await kit.portal.pause()
        await _undone_with_open_intents(kit, ca)
        kit.clock.now += _DAYS
        report = await kit.portal.reconciler.run()
        assert (report.open, report.unanswered) == (0, 3)
        assert await _states(kit) == ["open"] * 3
        ca.away = False
        report = await kit.portal.reconciler.run()
        assert (report.open, report.unanswered) == (3, 0)
        assert await _states(kit) == ["given_up"] * 3
        report = await kit.portal.reconciler.run()
        assert (report.open, report.unanswered) == (0, 0)


async def test_it_writes_nothing_when_there_is_nothing(kit: Kit) -> None:
    """No writing transaction is opened: writers of orders aren't kept waiting."""
    await kit.portal.pause()
    begun: list[str] = []
    event.listen(
        kit.database.engine.sync_engine, "before_cursor_execute", lambda *found: begun.append(found[2])
    )
    event.listen(kit.database.engine.sync_engine, "begin", lambda connection: begun.append(_how(connection)))
    await kit.portal.reconciler.run()
    assert "write" not in begun
    assert begun


def _how(connection: object) -> str:
    options: dict[str, object] = connection.get_execution_options()  # type: ignore[attr-defined] # SQLAlchemy's event
    return "write" if options.get("inlay_write") else "read"

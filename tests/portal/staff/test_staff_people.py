"""Accounts: of two administrators who take the role from each other at once one keeps it; on both databases."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.errors import FieldErrors, Forbidden, NotFound, StalePage
from portal.model.states import Role
from portal.store.tables import User
from tests.support.portal_kit import Kit, running_portal
from tests.support.postgresql import PrivatePostgresql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from portal.views import Session

TAKEN = {"roles": ["self-service"], "state": ["active"], "reason": ["quarrel"]}
SHOWN = "active|administrator"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.interop)])
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """None is SQLite; a database of PostgreSQL is made outside the event loop."""
    if request.param == "sqlite":
        yield None
        return
    with PrivatePostgresql() as server:
        yield server.fresh_database()


@pytest.fixture
async def kit(tmp_path: Path, url: str | None) -> AsyncIterator[Kit]:
    async with running_portal(tmp_path, database=url) as running:
        yield running


async def roots(kit: Kit) -> list[Session]:
    return [await kit.person(f"root{number}@example.org", [Role.ADMINISTRATOR]) for number in range(2)]


async def test_refusals(kit: Kit) -> None:
    root, other = await roots(kit)
    ada = await kit.person()
    change = kit.portal.administrator.change_person
    with pytest.raises(Forbidden):
        await change(ada, root.user.id, TAKEN, SHOWN)
    with pytest.raises(NotFound):
        await change(root, "nobody", TAKEN, SHOWN)
    with pytest.raises(StalePage):
        await change(root, other.user.id, TAKEN, "active|operator")
    with pytest.raises(FieldErrors) as caught:
        await change(root, other.user.id, {"roles": ["emperor"], "state": ["away"], "reason": [""]}, SHOWN)
    assert set(caught.value.errors) == {"roles", "state", "reason"}


async def test_two_at_once_leave_one_administrator(kit: Kit) -> None:
    for _ in range(3):
        people = await roots(kit)
        change = kit.portal.administrator.change_person
        first, second = people
        results = await asyncio.gather(
            change(first, second.user.id, TAKEN, SHOWN),
            change(second, first.user.id, TAKEN, SHOWN),
            return_exceptions=True,
        )
        assert [type(result) for result in results if result is not None] == [FieldErrors]
        async with kit.database.write() as tx:
            rows = list(await tx.scalars(select(User).where(User.email.startswith("root"))))
            assert sorted(row.roles for row in rows) == [["administrator"], ["self-service"]]
            for row in rows:
                row.email, row.roles = f"was-{row.id}@example.org", ["self-service"]

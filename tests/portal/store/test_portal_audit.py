"""The audit log finds every kind of tampering."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, update

from portal.store import audit
from portal.store.database import Database
from portal.store.tables import AuditEntry, AuditHead
from tests.support.databases import BACKENDS

if TYPE_CHECKING:
    from sqlalchemy.sql.dml import Delete, Update

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


@pytest.fixture
async def log(database: Database) -> Database:
    """A database with five entries, written by five writers at once."""

    async def write(number: int) -> None:
        async with database.write() as tx:
            await audit.record(
                tx, at=number, actor="a", action="b", kind="c", object_id=str(number), n=number
            )

    await asyncio.gather(*(write(number) for number in range(5)))
    return database


async def _fault(log: Database) -> int | None:
    async with log.read() as tx:
        return await audit.first_fault(tx)


@pytest.mark.parametrize(
    ("statement", "row"),
    [
        (update(AuditEntry).where(AuditEntry.number == 3).values(actor="somebody else"), 3),
        (update(AuditEntry).where(AuditEntry.number == 3).values(details={"n": 9}), 3),
        (delete(AuditEntry).where(AuditEntry.number == 2), 2),
        (delete(AuditEntry).where(AuditEntry.number == 5), 5),
        (update(AuditEntry).where(AuditEntry.number == 5).values(number=6), 5),
        (update(AuditHead).values(hash="0" * 64), 6),
    ],
    ids=["changed", "details changed", "removed", "end cut off", "renumbered", "head changed"],
)
async def test_tampering(log: Database, statement: Update | Delete, row: int) -> None:
    """The first row that doesn't fit is named."""
    async with log.write() as tx:
        await tx.execute(statement)
    assert await _fault(log) == row


async def test_reordered(log: Database) -> None:
    """Two rows that changed places."""
    async with log.write() as tx:
        for before, after in ((2, 90), (3, 2), (90, 3)):
            await tx.execute(update(AuditEntry).where(AuditEntry.number == before).values(number=after))
    assert await _fault(log) == 2


async def test_untouched(log: Database) -> None:
    """Writers at once make one chain."""
    assert await _fault(log) is None


async def test_a_change_that_fails_leaves_no_entry(log: Database) -> None:
    """Entry and change are one transaction."""

    async def fail() -> None:
        async with log.write() as tx:
            await audit.record(tx, at=1, actor="a", action="b", kind="c", object_id="d")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await _fault(log) is None

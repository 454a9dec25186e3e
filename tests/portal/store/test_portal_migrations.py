"""The migrations make exactly the tables, and take them away again; on SQLite and on PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from portal.events import ChangeBus
from portal.store import migrate
from portal.store.database import Database
from portal.store.tables import Base

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """An empty SQLite database."""
    empty = Database(f"sqlite+aiosqlite:///{tmp_path}/portal.db", ChangeBus())
    yield empty
    await empty.close()


def test_the_newest_revision_is_known_without_alembic() -> None:
    scripts = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))
    assert scripts.get_heads() == [migrate.HEAD]


async def check_up_and_down(database: Database) -> None:
    """Up twice, compare with the tables, down, up again."""

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))

    def tables(connection: Connection) -> set[str]:
        return set(inspect(connection).get_table_names())

    await migrate.upgrade(database)
    await migrate.upgrade(database)
    assert await migrate.in_thread(database, differences) == []
    await migrate.downgrade(database, "base")
    assert await migrate.in_thread(database, tables) == {"alembic_version"}
    await migrate.upgrade(database)
    async with database.read() as tx:
        assert (await tx.execute(text("SELECT number, hash FROM audit_head"))).one() == (0, "0" * 64)


async def test_on_sqlite(database: Database) -> None:
    """No difference between migrations and tables."""
    await check_up_and_down(database)


async def test_cards_of_the_first_schema_are_kept(database: Database) -> None:
    """Of a card that was there nothing was seen yet; on the way down its generation goes and the card stays."""
    user = "INSERT INTO users VALUES ('u', 'ada@example.org', 'Ada', 'active', '[]', 'h', 1)"
    card = (
        "INSERT INTO cards (id, kind, owner_id, label, serial, guid, state, storage, attested,"
        " valid_until, created_at, changed_at) VALUES ('c', 'k', 'u', 'l', 's', 'g', 'active', 'file', 0, 1, 1, 1)"
    )
    await migrate.upgrade(database, "0001")
    async with database.write() as tx:
        await tx.execute(text(user))
        await tx.execute(text(card))
    await migrate.upgrade(database)
    async with database.read() as tx:
        assert (await tx.execute(text("SELECT generation, restored_at FROM cards"))).one() == (0, None)
    await migrate.downgrade(database, "0001")
    async with database.read() as tx:
        row = (await tx.execute(text("SELECT * FROM cards"))).mappings().one()
    assert row["id"] == "c"
    assert not {"generation", "restored_at"} & set(row)


async def test_sqlite_is_set_up(database: Database) -> None:
    """Write-ahead log, foreign keys, full sync."""
    await migrate.upgrade(database)
    async with database.read() as tx:
        for pragma, value in (("journal_mode", "wal"), ("foreign_keys", 1), ("synchronous", 2)):
            assert (await tx.execute(text(f"PRAGMA {pragma}"))).scalar_one() == value

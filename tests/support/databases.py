"""Databases of the current schema for tests: migrated once in a run, then copied or emptied for each test."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import create_engine, text

from portal.events import ChangeBus
from portal.store import migrate
from portal.store.database import Database
from portal.store.tables import Base
from tests.support import compiled_statements

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgresql import PrivatePostgresql

compiled_statements.use()
BACKENDS: Final = [
    pytest.param("sqlite"),
    pytest.param("postgresql", marks=pytest.mark.interop),
]
"""For ``pytest.mark.parametrize("backend", BACKENDS, indirect=True)``: the same tests on both."""


class Databases:
    """Makes them.

    Args:
        folder: where the template is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._template = folder / "template.db"
        _migrate(f"sqlite+aiosqlite:///{self._template}")
        self._postgresql: _Emptied | None = None

    def sqlite(self, path: Path) -> str:
        """A file of its own; its URL."""
        shutil.copyfile(self._template, path)
        return f"sqlite+aiosqlite:///{path}"

    def postgresql(self, server: PrivatePostgresql) -> str:
        """A database as it is after the migrations, the same one for every test; its URL."""
        if self._postgresql is None:
            self._postgresql = _Emptied(server.fresh_database())
        else:
            self._postgresql.empty()
        return self._postgresql.url


class _Emptied:
    """A PostgreSQL database that is emptied: quicker than a new one, and far less to remove at the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        _migrate(url)
        self._tables = Base.metadata.sorted_tables
        engine = create_engine(url)
        with engine.begin() as connection:
            self._rows: list[tuple[Any, list[dict[str, Any]]]] = [
                (table, [dict(row) for row in connection.execute(table.select()).mappings()])
                for table in self._tables
            ]
        engine.dispose()

    def empty(self) -> None:
        """Everything out, and what the migrations put in back in."""
        engine = create_engine(self.url)
        with engine.begin() as connection:
            connection.execute(text("SET lock_timeout = '10s'"))
            names = ", ".join(table.name for table in self._tables)
            connection.execute(text(f"TRUNCATE {names}"))
            for table, rows in self._rows:
                if rows:
                    connection.execute(table.insert(), rows)
        engine.dispose()


def _migrate(url: str) -> None:
    async def run() -> None:
        database = Database(url, ChangeBus())
        await migrate.upgrade(database)
        await database.close()

    asyncio.run(run())

"""Brings a database to a revision of the schema."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy import create_engine, inspect, text

from portal.store.database import prepare_sqlite

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

    from portal.store.database import Database


T = TypeVar("T")
HEAD: Final = "0020"
"""The newest revision: a database that has it needs neither Alembic nor its scripts."""
_VERSIONS: Final = "alembic_version"


async def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to a revision; nothing happens when it is there already."""
    async with database.engine.connect() as connection:
        if await connection.run_sync(_revisions) == [HEAD if revision == "head" else revision]:
            return

    def run(connection: Connection) -> None:
        from alembic import command

        command.upgrade(_configuration(connection), revision)

    await in_thread(database, run)


async def downgrade(database: Database, revision: str) -> None:
    """Bring the schema down to a revision; ``base`` is an empty database."""

    def run(connection: Connection) -> None:
        from alembic import command

        command.downgrade(_configuration(connection), revision)

    await in_thread(database, run)


def _revisions(connection: Connection) -> list[str]:
    """What the database says that it has; Alembic finds out what is to be done about any other answer than one."""
    if not inspect(connection).has_table(_VERSIONS):
        return []
    return list(connection.execute(text(f"SELECT version_num FROM {_VERSIONS}")).scalars())  # noqa: S608  # a constant


async def in_thread(database: Database, work: Callable[[Connection], T]) -> T:
    """Work on the schema takes long and waits for nothing: it runs in a thread, on an engine of its own."""

    def run() -> T:
        sqlite = database.url.get_backend_name() == "sqlite"
        engine = create_engine(database.url.set(drivername="sqlite") if sqlite else database.url)
        if sqlite:
            prepare_sqlite(engine)
        try:
            with engine.execution_options(inlay_write=True).begin() as connection:
                return work(connection)
        finally:
            engine.dispose()

    return await asyncio.to_thread(run)


def _configuration(connection: Connection) -> Config:
    """Alembic's configuration: everything is here, there is no ini file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config

"""Brings a database to a revision of the schema."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from portal.store.database import prepare_sqlite

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from portal.store.database import Database


T = TypeVar("T")


async def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to a revision; nothing happens when it is there already."""
    await in_thread(database, lambda connection: command.upgrade(_configuration(connection), revision))


async def downgrade(database: Database, revision: str) -> None:
    """Bring the schema down to a revision; ``base`` is an empty database."""
    await in_thread(database, lambda connection: command.downgrade(_configuration(connection), revision))


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
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config

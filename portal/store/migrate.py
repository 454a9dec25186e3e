"""Brings a database to a revision of the schema."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from portal.store.database import prepare_sqlite

if TYPE_CHECKING:
    from portal.store.database import Database


def configuration() -> Config:
    """Alembic's configuration: everything is here, there is no ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


async def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to a revision; nothing happens when it is there already."""
    await _run(database, lambda config: command.upgrade(config, revision))


async def downgrade(database: Database, revision: str) -> None:
    """Bring the schema down to a revision; ``base`` is an empty database."""
    await _run(database, lambda config: command.downgrade(config, revision))


async def _run(database: Database, action: Callable[[Config], None]) -> None:
    """Migrations take long and wait for nothing: they run in a thread, on an engine of their own."""

    def migrate() -> None:
        sqlite = database.url.get_backend_name() == "sqlite"
        engine = create_engine(database.url.set(drivername="sqlite") if sqlite else database.url)
        if sqlite:
            prepare_sqlite(engine)
        config = configuration()
        with engine.execution_options(inlay_write=True).begin() as connection:
            config.attributes["connection"] = connection
            action(config)
        engine.dispose()

    await asyncio.to_thread(migrate)

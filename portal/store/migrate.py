"""Brings a database to a revision of the schema."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config

if TYPE_CHECKING:
    from sqlalchemy import Connection

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
    def migrate(connection: Connection) -> None:
        config = configuration()
        config.attributes["connection"] = connection
        action(config)

    async with database.engine.execution_options(inlay_write=True).begin() as connection:
        await connection.run_sync(migrate)

"""The database: one engine, transactions that read and transactions that write.

SQLite (WAL, foreign keys, full sync) and PostgreSQL go through the same code. A writing transaction takes SQLite's
write lock at its beginning, so that it never fails half-way because another one wrote; on PostgreSQL rows are locked as
they are read (``for_update``), and names that no row stands for by ``hold_name``. Topics noted in a writing transaction
are published after its commit.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event, func, make_url, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from portal.model.object_model import ObjectModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from portal.events import ChangeBus

_TOPICS: Final = "inlay_topics"
_MODEL: Final = "inlay_model"
_BUSY_MS: Final = 15_000


class Database:
    """The portal's database.

    Attributes:
        url: where it is.
        model: the states and relations that objects may have.

    Args:
        url: for example ``sqlite+aiosqlite:////var/lib/inlay/portal.db`` or ``postgresql+psycopg://…``.
        bus: where topics are published after a commit.
        model: for the attribute; what is built in by default.
    """

    def __init__(self, url: str, bus: ChangeBus, model: ObjectModel | None = None) -> None:
        self.bus = bus
        self.model = model or ObjectModel()
        self.url = make_url(url)
        self._sqlite = self.url.get_backend_name() == "sqlite"
        self.engine: AsyncEngine = create_async_engine(
            # values stay out of errors, and so out of logs
            url,
            pool_pre_ping=not self._sqlite,
            hide_parameters=True,
        )
        if self._sqlite:
            prepare_sqlite(self.engine.sync_engine)
        writing = self.engine.execution_options(inlay_write=True)
        info = {_MODEL: self.model}
        self._readers = async_sessionmaker(self.engine, expire_on_commit=False, info=info)
        self._writers = async_sessionmaker(writing, expire_on_commit=False, info=info)
        # SQLite has one writer; waiting here is fair, waiting in SQLite is polling
        self._one_writer = asyncio.Lock()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A reading transaction: one consistent picture."""
        async with self._readers() as session, session.begin():
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A writing transaction: committed at the end, rolled back by an exception."""
        if self._sqlite:
            async with self._one_writer, self._writers() as session, session.begin():
                yield session
        else:
            async with self._writers() as session, session.begin():
                yield session
        self.bus.publish(session.info.pop(_TOPICS, ()))

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


def notify(tx: AsyncSession, *topics: str) -> None:
    """Publish topics once this transaction is committed."""
    tx.info.setdefault(_TOPICS, set()).update(topics)


async def hold_name(tx: AsyncSession, name: str) -> None:
    """Go past here one writing transaction at a time for each name, until this one ends.

    For what no row stands for yet: of two that look for it at once, the second one sees what the first has stored.
    Taken behind the locks of rows and before the audit log's. SQLite has one writer anyway.
    """
    if tx.get_bind().dialect.name == "postgresql":
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
        await tx.execute(select(func.pg_advisory_xact_lock(number)))


def model_of(tx: AsyncSession) -> ObjectModel:
    """The states and relations that the objects of this database may have."""
    model = tx.info[_MODEL]
    assert isinstance(model, ObjectModel)  # noqa: S101  # set above for every transaction
    return model


def prepare_sqlite(engine: Engine) -> None:
    """Have an engine's connections use WAL and foreign keys, and begin transactions as this module says."""

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        # transactions are begun below, not by the driver, which would begin them too late
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("inlay_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

"""The statements of the portal are compiled once in a test run, and not once for each test's database.

SQLAlchemy keeps what it has compiled with an engine, and knows it by the engine's dialect: the engines of the tests
have both in common, one for each kind of database. A portal that is a process of its own has one engine as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import create_async_engine

from portal.store import database

if TYPE_CHECKING:
    from sqlalchemy import Dialect
    from sqlalchemy.ext.asyncio import AsyncEngine

_common: dict[str, tuple[Dialect, Any]] = {}


def _created(*arguments: Any, **named: Any) -> AsyncEngine:
    made = create_async_engine(*arguments, **named)
    engine = made.sync_engine
    first = (engine.dialect, engine._compiled_cache)
    engine.dialect, engine._compiled_cache = _common.setdefault(engine.dialect.name, first)
    return made


def use() -> None:
    """From now on, in this process."""
    vars(database)["create_async_engine"] = _created

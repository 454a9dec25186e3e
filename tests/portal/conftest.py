"""Fixtures of the portal's tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from portal.events import ChangeBus
from portal.store.database import Database
from tests.support import samples
from tests.support.databases import Databases
from tests.support.portal_kit import Kit, running_portal
from tests.support.postgresql import PrivatePostgresql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


_PROCESSES = Path(__file__).with_name("processes")
_AT_ONCE = re.compile(
    "at_once|meanwhile|race|twice|same_time|at_the_same|serial|locked|two_|another_order|each_once"
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of the processes run with all their parameters on SQLite, and with one set of them on PostgreSQL.

    What two do at once is shown there by every test of it, the rest by every third one; see `make whole`.
    """
    processes = [item for item in items if item.path.is_relative_to(_PROCESSES)]
    repeated = samples.repeated(processes, "backend", "postgresql")
    once = [item for item in processes if item not in set(repeated)]
    if left := {*repeated, *samples.all_but_one_in(3, once, "backend", "postgresql", _AT_ONCE)}:
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=list(left))


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """Makes migrated databases."""
    return Databases(tmp_path_factory.mktemp("databases"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PrivatePostgresql]:
    """A PostgreSQL server, started once for the test run."""
    with PrivatePostgresql() as running:
        yield running


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    """The kind of database: SQLite, unless a test is parametrised over ``BACKENDS``."""
    kind: str = getattr(request, "param", "sqlite")
    return kind


@pytest.fixture
def database_url(request: pytest.FixtureRequest, backend: str, databases: Databases, tmp_path: Path) -> str:
    """A migrated database of the test's own."""
    if backend == "postgresql":
        return databases.postgresql(request.getfixturevalue("postgresql"))
    return databases.sqlite(tmp_path / "portal.db")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The same, opened."""
    opened = Database(database_url, ChangeBus())
    yield opened
    await opened.close()


@pytest.fixture
async def kit(tmp_path: Path, database_url: str) -> AsyncIterator[Kit]:
    """A running portal."""
    async with running_portal(tmp_path, database=database_url) as running:
        yield running

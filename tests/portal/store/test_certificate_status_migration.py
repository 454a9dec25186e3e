"""The migration to certificates on hold, up and down with data: what a CA has issued and what waits for it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from portal.events import ChangeBus
from portal.store import migrate
from portal.store.database import Database
from tests.support.postgresql import PrivatePostgresql

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.interop

_CERTIFICATE = (
    "INSERT INTO certificates (id, request_id, owner_id, profile, slot, algorithm, key_source, key_hash, issuer,"
    " serial, subject, not_before, not_after, der, state, ca_state, created_at, changed_at)"
    " VALUES ('{0}', '{0}', 'u', 'signature', '9C', 'P-256', 'generate', 'h', 'CN=CA', '{0}', 's', 1, 2, '', 'Valid',"
    " 'good', 1, 1)"
)
_BEFORE = (
    "INSERT INTO users VALUES ('u', 'ada@example.org', 'Ada', 'active', '[]', 'h', 1)",
    "INSERT INTO ca_certificates VALUES ('1', 'ca', '', '', 9, 1, NULL, NULL)",
    "INSERT INTO ca_certificates VALUES ('2', 'a', 'h', '', 9, 1, 5, 'superseded')",
    "INSERT INTO ca_crls VALUES (7, '', 1, 2)",
    _CERTIFICATE.format("a"),
    _CERTIFICATE.format("b"),
    "INSERT INTO revocation_queue VALUES ('a', 'superseded', 3, 1, 1)",
)


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgresql]:
    """One server for this file."""
    with PrivatePostgresql() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, server: PrivatePostgresql, tmp_path: Path) -> str:
    """An empty database."""
    return (
        server.fresh_database()
        if request.param == "postgresql"
        else f"sqlite+aiosqlite:///{tmp_path}/portal.db"
    )


async def test_up_and_down(url: str) -> None:
    """The CA's own certificate is marked, what waits is a revocation; down again what isn't one is forgotten."""
    database = Database(url, ChangeBus())

    async def rows(query: str) -> list[tuple[object, ...]]:
        async with database.read() as tx:
            return [tuple(row) for row in await tx.execute(text(query))]

    await migrate.upgrade(database, "0002")
    async with database.write() as tx:
        for statement in _BEFORE:
            await tx.execute(text(statement))
    await migrate.upgrade(database)
    owned = await rows("SELECT serial, own, reason FROM ca_certificates ORDER BY serial")
    assert [(serial, bool(own), reason) for serial, own, reason in owned] == [
        ("1", True, None),
        ("2", False, "superseded"),
    ]
    assert await rows("SELECT certificate_id, change, last_error FROM revocation_queue") == [
        ("a", "revoke", None)
    ]
    assert await rows("SELECT number, changes FROM ca_crls") == [(7, 0)]
    assert await rows("SELECT id, changes FROM ca_status") == [(1, 0)]
    async with database.write() as tx:
        queued = (
            "INSERT INTO revocation_queue (certificate_id, change, reason, tries, next_try_at, created_at)"
        )
        await tx.execute(text(f"{queued} VALUES ('b', 'release', 'unspecified', 0, 1, 1)"))
        issued = "INSERT INTO ca_certificates (serial, request_id, key_hash, der, not_after, issued_at, own)"
        await tx.execute(text(f"{issued} VALUES ('3', 'ocsp.3', 'h', '', 9, 1, TRUE)"))
    await migrate.downgrade(database, "0002")
    assert await rows("SELECT certificate_id FROM revocation_queue") == [("a",)]
    assert await rows("SELECT serial FROM ca_certificates ORDER BY serial") == [("1",), ("2",)]
    assert len(await rows("SELECT id FROM certificates")) == 2
    await database.close()

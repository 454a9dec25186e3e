"""Orders of before their ends were numbered: each card's by when it was changed last, and none that hasn't ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from portal.events import ChangeBus
from portal.store import migrate
from portal.store.database import Database

if TYPE_CHECKING:
    from pathlib import Path

_USER = "INSERT INTO users VALUES ('u', 'ada@example.org', 'Ada', 'active', '[]', 'h', 1)"
_CARD = (
    "INSERT INTO cards (id, kind, owner_id, label, serial, guid, state, storage, attested, generation, valid_until,"
    " created_at, changed_at) VALUES (:id, 'card', 'u', 'l', 's', :id, 'x', 'card', 0, 0, 1, 1, 1)"
)
_PROCESS = (
    "INSERT INTO processes (id, name, user_id, step, state, variables, version, created_at, changed_at)"
    " VALUES ('p', 'n', 'u', 'x', 'running', '{}', 1, 1, 1)"
)
_ORDER = (
    "INSERT INTO orders (jti, process_id, user_id, session_id, operation, parameters, account, resume_within, state,"
    " version, link_code_expires_at, typed_code_expires_at, tries_left, stage, sent, received, created_at, changed_at,"
    " card_id) VALUES (:jti, 'p', 'u', 's', 'o', '{}', '{}', 1, :state, 1, 0, 0, 3, 'x', 0, 0, :at, :changed, :card)"
)
_ORDERS = (
    ("early, ended last", "undone", 1, 9, "a"),
    ("late, ended first", "finished", 2, 5, "a"),
    ("running", "running", 3, 7, "a"),
    ("of no card", "undone", 1, 1, None),
    ("of another", "finishing", 1, 8, "b"),
)


async def test_ends_are_numbered_card_by_card_and_nothing_is_lost_on_the_way_down(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/portal.db", ChangeBus())
    await migrate.upgrade(database, "0017")
    async with database.write() as tx:
        for statement in (_USER, _PROCESS):
            await tx.execute(text(statement))
        for card in ("a", "b"):
            await tx.execute(text(_CARD), {"id": card})
        for jti, state, at, changed, card_id in _ORDERS:
            values = {"jti": jti, "state": state, "at": at, "changed": changed, "card": card_id}
            await tx.execute(text(_ORDER), values)
    async with database.read() as tx:
        before = [dict(row) for row in (await tx.execute(text("SELECT * FROM orders"))).mappings()]
    await migrate.upgrade(database, "0020")
    async with database.read() as tx:
        rows = await tx.execute(text("SELECT jti, ended FROM orders"))
        found = {row.jti: row.ended for row in rows}
    assert found == {
        "early, ended last": 2,
        "late, ended first": 1,
        "running": None,
        "of no card": None,
        "of another": 1,
    }
    await migrate.downgrade(database, "0017")
    async with database.read() as tx:
        assert [dict(row) for row in (await tx.execute(text("SELECT * FROM orders"))).mappings()] == before
    await database.close()

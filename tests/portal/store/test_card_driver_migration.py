"""Cards of before there were drivers: what is in a reader is a PIV card, and a virtual card stays one."""

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
    " created_at, changed_at) VALUES (:id, :kind, 'u', 'l', 's', :id, 'x', 'card', 0, 0, 1, 1, 1)"
)
_KINDS = {"a": "card", "b": "temporary_card", "c": "virtual_smart_card"}


async def test_every_card_gets_its_driver_and_loses_nothing_else_on_the_way_down(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/portal.db", ChangeBus())
    await migrate.upgrade(database, "0016")
    async with database.write() as tx:
        await tx.execute(text(_USER))
        for key, kind in _KINDS.items():
            await tx.execute(text(_CARD), {"id": key, "kind": kind})
    async with database.read() as tx:
        before = [dict(row) for row in (await tx.execute(text("SELECT * FROM cards"))).mappings()]
    await migrate.upgrade(database, "0017")
    async with database.read() as tx:
        found = (await tx.execute(text("SELECT id, driver, described_by FROM cards ORDER BY id"))).all()
    assert [tuple(row) for row in found] == [("a", "piv", None), ("b", "piv", None), ("c", "virtual", None)]
    await migrate.downgrade(database, "0016")
    async with database.read() as tx:
        assert [dict(row) for row in (await tx.execute(text("SELECT * FROM cards"))).mappings()] == before
    await database.close()

"""Every migration down and up again, with a portal's data in the database: nothing that a schema can hold is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from portal.events import ChangeBus
from portal.model.states import CertificateState, Role
from portal.processes.handle_issued import HandleIssued
from portal.store import audit_check, migrate
from portal.store.database import Database
from portal.views import ObjectRef
from tests.support.databases import BACKENDS
from tests.support.portal_kit import P256, Kit, running_portal
from tests.support.stored_objects import put_certificate

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

_KEPT = (
    "users",
    "cards",
    "certificates",
    "orders",
    "processes",
    "object_relations",
    "ca_certificates",
    "devices",
)


async def _fill(kit: Kit) -> None:
    """A card with its certificates, and an operator's process that works on a certificate of somebody else's."""
    await kit.set_options(**P256)
    ada = await kit.person()
    _, agent = await kit.bound_agent(ada)
    await agent.complete()
    olga = await kit.person("olga@example.org", [Role.OPERATOR])
    ref = ObjectRef("certificate", await put_certificate(kit, ada, CertificateState.ISSUED))
    await kit.services.start_process(olga, HandleIssued.name, ref)


async def _counts(database: Database) -> dict[str, int]:
    async with database.read() as tx:
        return {
            table: (await tx.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()  # noqa: S608  # our own names
            for table in _KEPT
        }


def _revisions() -> list[str]:
    """All revisions but the newest, newest first."""
    found = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations")).walk_revisions()
    return [script.revision for script in found][1:]


_REVISIONS = _revisions()  # read here: it would block the loop of a test


async def _log(database: Database) -> list[str]:
    async with database.read() as tx:
        return [str(fault) for fault in await audit_check.faults(tx)]


async def test_down_to_the_first_schema_and_up_again(tmp_path: Path, database_url: str) -> None:
    """One step after the other; every row stays, the log stays whole, and the portal goes on with it."""
    async with running_portal(tmp_path, database=database_url) as kit:
        await _fill(kit)
    database = Database(database_url, ChangeBus())
    before = await _counts(database)
    assert all(before.values())
    for revision in _REVISIONS:
        await migrate.downgrade(database, revision)
        assert await _counts(database) == before, revision
    for revision in reversed(_REVISIONS):
        await migrate.upgrade(database, revision)
        assert await _counts(database) == before, revision
    await migrate.upgrade(database)
    assert await _log(database) == []
    await database.close()
    async with running_portal(tmp_path, database=database_url) as kit:
        session = await kit.login()
        (card,) = await kit.services.cards(session)
        assert len(card.certificates) == 3
        await kit.known_agent(await kit.person("bea@example.org"))
        assert await _log(kit.database) == []


async def test_targets_of_processes_go_with_their_columns(tmp_path: Path, database_url: str) -> None:
    """Below revision 0003 a process has no target; it stays, and is one without a target from then on."""
    async with running_portal(tmp_path, database=database_url) as kit:
        await _fill(kit)
    database = Database(database_url, ChangeBus())
    query = text("SELECT target_kind, subject_id, approved_by FROM processes WHERE name = :name")
    async with database.read() as tx:
        (row,) = await tx.execute(query, {"name": HandleIssued.name})
    assert (row.target_kind, row.approved_by) == ("certificate", None)
    assert row.subject_id is not None
    await migrate.downgrade(database, "0006")
    await migrate.upgrade(database)
    async with database.read() as tx:
        (row,) = await tx.execute(query, {"name": HandleIssued.name})
    assert tuple(row) == (None, None, None)
    await database.close()

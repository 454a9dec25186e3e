"""Orders of before there were plans get the plan that their parameters tell of, and go on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlalchemy import select, text

from portal.encoding.plan import TaskKind
from portal.events import ChangeBus
from portal.processes import tasks
from portal.store import migrate
from portal.store.database import Database
from portal.store.tables import Order

if TYPE_CHECKING:
    from pathlib import Path

_USER = "INSERT INTO users VALUES ('u', 'ada@example.org', 'Ada', 'active', '[]', 'h', 1)"
_PROCESS = (
    "INSERT INTO processes (id, name, user_id, state, step, variables, version, created_at, changed_at)"
    " VALUES ('p', 'n', 'u', 'running', 'open', '{}', 1, 1, 1)"
)
_ORDER = (
    "INSERT INTO orders (jti, process_id, user_id, session_id, operation, parameters, account, resume_within, state,"
    " version, link_code_expires_at, typed_code_expires_at, tries_left, stage, sent, received, created_at, changed_at)"
    " VALUES (:jti, 'p', 'u', 's', :operation, :parameters, '{}', 60, 'running', 1, 0, 0, 3, 'begun', 0, 0, 1, 1)"
)
_KEY = {"slot": "9D", "purpose": "encryption", "algorithm": "P-256", "source": "import", "subject": "CN=A"}


async def test_a_running_order_gets_its_plan_and_loses_it_on_the_way_down(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/portal.db", ChangeBus())
    await migrate.upgrade(database, "0003")
    made = json.dumps({"label": "My card", "keys": [_KEY]})
    async with database.write() as tx:
        await tx.execute(text(_USER))
        await tx.execute(text(_PROCESS))
        await tx.execute(text(_ORDER), {"jti": "a", "operation": "create_virtual_card", "parameters": made})
        await tx.execute(text(_ORDER), {"jti": "b", "operation": "change_pin", "parameters": "{}"})
    await migrate.upgrade(database)
    async with database.read() as tx:
        first, second = (await tx.scalars(select(Order).order_by(Order.jti))).all()
        plan = tasks.plan_of(first)
        assert second.task is None
    assert (plan.kind, plan.label) == (TaskKind.PRODUCTION, "My card")
    (planned,) = plan.certificates
    assert (planned.slot, planned.template, planned.source) == ("9D", "encryption", "import")
    assert (planned.relation, planned.relation_type) == ("success", "HAS_A")
    await migrate.downgrade(database, "0003")
    async with database.read() as tx:
        rows = (await tx.execute(text("SELECT * FROM orders"))).mappings().all()
    assert [row["jti"] for row in rows] == ["a", "b"]
    assert "task" not in rows[0]
    await database.close()

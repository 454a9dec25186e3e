"""Nothing changes without a row of the audit log that names it, in the transaction that changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import event, inspect, select
from sqlalchemy.orm import Session as OrmSession

from portal.ca.authority import Reason
from portal.model.states import Role
from portal.processes import ca_changes
from portal.processes.ca_changes import Change
from portal.processes.lock_for_operator import LockForOperator
from portal.store.tables import (
    ArchivedKey,
    AuditEntry,
    CaCertificate,
    CaCrl,
    Card,
    Certificate,
    ObjectRelation,
    Order,
    Process,
    Revocation,
    ScriptOptions,
    User,
)
from portal.views import ObjectRef
from tests.support import sample_tasks as samples
from tests.support.databases import BACKENDS
from tests.support.portal_kit import P256
from tests.support.software_agent import SoftwareCard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portal.views import Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

CARD = "virtual_smart_card"
_IDS: Final[dict[type[Any], str]] = {
    ArchivedKey: "id",
    CaCertificate: "serial",
    CaCrl: "number",
    Card: "id",
    Certificate: "id",
    ObjectRelation: "from_id",
    Process: "id",
    Revocation: "certificate_id",
    ScriptOptions: "script",
    User: "id",
}
"""Tables whose new rows are told of, and the column that the log names them by."""
_COLUMNS: Final[dict[type[Any], set[str]]] = {
    CaCertificate: {"revoked_at", "reason"},
    Card: {"state"},
    Certificate: {"state", "ca_state"},
    Order: {"state"},
    Process: {"state", "step"},
    Revocation: {"change"},
    User: {"state", "roles"},
}
"""Columns whose changes are told of."""


class Watch:
    """Notes, of every transaction that is committed, what it changes and which objects its rows in the log name.

    Attributes:
        seen: what was changed at all: table and column, or "new" in the column's place.
        silent: changes without a row of their object.
    """

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()
        self.silent: set[tuple[str, str]] = set()

    def flush(self, session: OrmSession, *_: object) -> None:
        """Before rows are written."""
        changed, named = session.info.setdefault("watched", (set[tuple[str, str, str]](), set[str]()))
        for row in session.new:
            if isinstance(row, AuditEntry):
                named.add(row.object_id)
            elif type(row) in _IDS:
                changed.add((type(row).__name__, "new", _id(row)))
        for row in session.dirty:
            for column in _COLUMNS.get(type(row), ()):
                if inspect(row).attrs[column].history.has_changes():
                    changed.add((type(row).__name__, column, _id(row)))

    def commit(self, session: OrmSession) -> None:
        """After a transaction's end."""
        changed, named = session.info.pop("watched", (set(), set()))
        self.seen |= {(table, column) for table, column, _ in changed}
        self.silent |= {(table, column) for table, column, key in changed if key not in named}

    def forget(self, session: OrmSession) -> None:
        """After a rollback."""
        session.info.pop("watched", None)


def _id(row: Any) -> str:
    return str(getattr(row, _IDS.get(type(row), "jti")))


@pytest.fixture
def watch() -> Iterator[Watch]:
    """From here to the test's end."""
    made = Watch()
    hooks = (("before_flush", made.flush), ("after_commit", made.commit), ("after_rollback", made.forget))
    for name, hook in hooks:
        event.listen(OrmSession, name, hook)
    yield made
    for name, hook in hooks:
        event.remove(OrmSession, name, hook)


async def _get_and_renew(kit: Kit, ada: Session) -> tuple[ObjectRef, SoftwareAgent]:
    view, agent = await kit.bound_agent(ada)
    await agent.complete()
    view = await kit.services.process(ada, view.id)
    await kit.services.next(ada, view.id, view.version)
    assert view.card is not None
    ref = ObjectRef(CARD, view.card.id)
    view = await kit.services.start_process(ada, "VirtualSmartCardProcRenew", ref)
    view, renewing = await samples.carried(kit, ada, view, await samples.again(kit, agent))
    await renewing.complete()
    view = await kit.services.process(ada, view.id)
    await kit.services.next(ada, view.id, view.version)
    return ref, agent


async def _hold_and_release(kit: Kit) -> None:
    await kit.portal.revocations.run_due()
    async with kit.database.read() as tx:
        some = (await tx.scalars(select(Certificate.id).where(Certificate.state == "Valid"))).first()
    for change in (Change.HOLD, Change.RELEASE):
        async with kit.database.write() as tx:
            row = await tx.get_one(Certificate, some, with_for_update=True)
            await ca_changes.ask(tx, row, change, "test", kit.clock())
        await kit.portal.revocations.run_due()


async def _give_up_a_replacement(kit: Kit, ada: Session, ref: ObjectRef, agent: SoftwareAgent) -> None:
    """Cancelled when the certificates are written; the device never comes back."""
    view = await kit.services.start_process(ada, "VirtualSmartCardProcReplace", ref)
    device = await samples.again(kit, agent)
    device.card = SoftwareCard()
    view, device = await samples.carried(kit, ada, view, device)
    await device.make_card()
    await kit.services.cancel(ada, view.id)
    await device.close()
    kit.clock.now += 7200
    await kit.portal.reconciler.run()
    await kit.portal.revocations.run_due()


async def test_every_change_is_logged_by_the_transaction_that_makes_it(kit: Kit, watch: Watch) -> None:
    """Through the life of a card: made, renewed, put on hold and released, nearly replaced, locked."""
    await kit.portal.pause()
    await kit.set_options(**P256, HoldUntilProof=True)
    ada, olga = await kit.person(), await kit.person("olga@example.org", [Role.OPERATOR])
    ref, agent = await _get_and_renew(kit, ada)
    await _hold_and_release(kit)
    await _give_up_a_replacement(kit, ada, ref, agent)
    olga = await kit.login("olga@example.org")
    view = await kit.services.start_process(olga, LockForOperator.name, ref)
    await kit.services.next(olga, view.id, view.version, {"Reason": ["reported lost"]})
    await kit.portal.revocations.run_due()
    await kit.portal.ca.crl()
    root = await kit.person("root@example.org", [Role.ADMINISTRATOR])
    left = {"roles": ["approver"], "state": ["locked"], "reason": ["left"]}
    await kit.portal.administrator.change_person(root, ada.user.id, left, "active|self-service")
    assert watch.silent == set()
    told = {(table.__name__, "new") for table in _IDS}
    told |= {(table.__name__, column) for table, columns in _COLUMNS.items() for column in columns}
    assert told - watch.seen == {("Revocation", "change")}  # see the test below


async def test_a_change_that_takes_the_place_of_one_that_waits_is_logged(kit: Kit, watch: Watch) -> None:
    await kit.portal.pause()
    await kit.set_options(**P256)
    _, agent = await kit.bound_agent(await kit.person())
    await agent.complete()
    for change in (Change.HOLD, Change.REVOKE):
        async with kit.database.write() as tx:
            row = (await tx.scalars(select(Certificate).where(Certificate.slot == "9A"))).one()
            await ca_changes.ask(tx, row, change, "test", kit.clock(), Reason.SUPERSEDED)
    assert ("Revocation", "change") in watch.seen
    assert watch.silent == set()

"""Processes with a target, forms and two persons, from start to end, and over a restart at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.model.objects import CoreObject, ObjectKind
from portal.model.states import Role
from portal.store.tables import AuditEntry, Process
from portal.views import ObjectRef
from tests.support.databases import BACKENDS
from tests.support.portal_kit import P256, PROCESS, Kit, running_portal
from tests.support.sample_processes import LockCard, TwoPersons
from tests.support.stored_objects import put_card, put_certificate, state_of_card

if TYPE_CHECKING:
    from pathlib import Path

    from portal.views import ProcessView

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


def _add_samples(kit: Kit) -> None:
    for definition in (LockCard(), TwoPersons()):
        kit.portal.engine.definitions[definition.name] = definition


async def _process(kit: Kit, process_id: str) -> Process:
    async with kit.database.read() as tx:
        return await tx.get_one(Process, process_id)


async def _said(kit: Kit, process_id: str) -> list[tuple[str, str]]:
    """Who did what to a process, as the audit log has it."""
    query = select(AuditEntry).where(AuditEntry.object_id == process_id).order_by(AuditEntry.number)
    async with kit.database.read() as tx:
        return [(entry.actor, entry.action) for entry in await tx.scalars(query)]


async def test_an_operator_works_on_somebodys_card(kit: Kit) -> None:
    """Target, subject and who started it are kept apart; the form's values are variables."""
    _add_samples(kit)
    ada, olga = await kit.person(), await kit.person("olga@example.org", [Role.OPERATOR])
    card = await put_card(kit, ada)
    view = await kit.services.start_process(olga, LockCard.name, ObjectRef("virtual_smart_card", card))
    assert (view.subject, view.started_by) == ("ada@example.org", "olga@example.org")
    assert view.target == CoreObject(ObjectKind.VIRTUAL_SMART_CARD, card, "Card of ada@example.org")
    assert [field.name for field in view.form] == ["Reason", "Days"]
    assert view.values == {"Reason": "", "Days": 7}
    for form in ({"Reason": ["lost it"], "Days": ["3"]}, {}, {}):
        view = await kit.services.next(olga, view.id, view.version, form)
    assert (view.state, view.step) == ("finished", "done")
    assert await state_of_card(kit, card) == "Locked"
    stored = await _process(kit, view.id)
    assert (stored.user_id, stored.subject_id) == (olga.user.id, ada.user.id)
    assert stored.variables == {"card": view.target, "Reason": "lost it", "Days": 3}


async def test_two_persons(kit: Kit) -> None:
    """One asks, another agrees, the first has it done; both stand in the row and in the audit log."""
    _add_samples(kit)
    ada, olga = await kit.person(), await kit.person("olga@example.org", [Role.OPERATOR])
    paul = await kit.person("paul@example.org", [Role.APPROVER])
    ref = ObjectRef("certificate", await put_certificate(kit, ada))
    view = await kit.services.start_process(olga, TwoPersons.name, ref)
    view = await kit.services.next(olga, view.id, view.version, {"Reason": ["needed"]})
    (waiting,) = await kit.services.waiting(paul)
    assert (waiting.id, waiting.asked_by) == (view.id, "olga@example.org")
    seen = await kit.services.process(paul, view.id)
    assert (seen.can_next, seen.can_cancel) == (True, True)
    agreed = await kit.services.next(paul, view.id, seen.version, {"Decision": ["agree"]})
    assert (agreed.step, agreed.can_next, agreed.can_cancel) == ("do", False, False)
    again = await kit.services.next(paul, view.id, seen.version, {"Decision": ["agree"]})
    assert again == agreed
    assert await kit.services.waiting(paul) == []
    stored = await _process(kit, view.id)
    assert (stored.approved_by, stored.approved_at) == (paul.user.id, kit.clock())
    view = await kit.services.process(olga, view.id)
    assert (await kit.services.next(olga, view.id, view.version)).state == "finished"
    assert await _said(kit, view.id) == [
        ("olga@example.org", "process.started"),
        ("olga@example.org", "process.step"),
        ("paul@example.org", "process.step"),
        ("olga@example.org", "process.step"),
    ]


async def test_a_restart_at_every_step(tmp_path: Path, database_url: str) -> None:
    """Step, variables with their types, target and second person are read back as they were."""
    async with running_portal(tmp_path, database=database_url) as kit:
        _add_samples(kit)
        ada = await kit.person()
        await kit.person("olga@example.org", [Role.OPERATOR])
        await kit.person("paul@example.org", [Role.APPROVER])
        ref = ObjectRef("certificate", await put_certificate(kit, ada))
        view = await kit.services.start_process(await kit.login("olga@example.org"), TwoPersons.name, ref)
    steps: tuple[tuple[str, dict[str, list[str]], str], ...] = (
        ("olga@example.org", {"Reason": ["needed"]}, "agree"),
        ("paul@example.org", {"Decision": ["agree"]}, "do"),
        ("olga@example.org", {}, "done"),
    )
    for email, form, reached in steps:
        async with running_portal(tmp_path, database=database_url) as kit:
            _add_samples(kit)
            before = await _process(kit, view.id)
            session = await kit.login(email)
            view = await kit.services.process(session, view.id)
            assert (view.step, view.version) == (before.step, before.version)
            view = await _next(kit, email, view, form)
            assert view.step == reached
    async with running_portal(tmp_path, database=database_url) as kit:
        stored = await _process(kit, view.id)
    assert stored.state == "finished"
    assert stored.variables == {"Reason": "needed", "Decision": "agree"}
    assert stored.approved_by is not None


async def test_get_virtual_smart_card_over_a_restart_at_every_step(tmp_path: Path, database_url: str) -> None:
    """The portal's own process: every step is taken by another run of the portal, the order by one in between."""
    async with running_portal(tmp_path, database=database_url) as kit:
        await kit.set_options(**P256)
        view = await kit.services.start_process(await kit.person(), PROCESS)
        before = view.facts
    async with running_portal(tmp_path, database=database_url) as kit:
        view = await kit.services.process(await kit.login(), view.id)
        assert (view.step, view.facts, view.can_next) == ("information", before, True)
        assert (await kit.services.next(await kit.login(), view.id, view.version)).step == "open"
    async with running_portal(tmp_path, database=database_url) as kit:
        session = await kit.login()
        assert (await kit.services.process(session, view.id)).step == "open"
        code = await kit.services.new_code(session, view.id)
        agent = await kit.agent()
        await agent.claim(code.code)
        await agent.consent(number="417")
        await kit.bind(session, view.id, "417")
        await agent.complete()
    async with running_portal(tmp_path, database=database_url) as kit:
        session = await kit.login()
        view = await kit.services.process(session, view.id)
        assert (view.step, view.facts) == ("details", before)
        assert view.card is not None
        view = await kit.services.next(session, view.id, view.version)
    async with running_portal(tmp_path, database=database_url) as kit:
        view = await kit.services.process(await kit.login(), view.id)
        assert (view.state, view.step) == ("finished", "done")
        assert len(await kit.valid_at_ca()) == 3


async def test_a_descriptor_survives_a_restart(tmp_path: Path, database_url: str) -> None:
    """A variable that stands for an object is a descriptor again."""
    async with running_portal(tmp_path, database=database_url) as kit:
        _add_samples(kit)
        ada, olga = await kit.person(), await kit.person("olga@example.org", [Role.OPERATOR])
        card = await put_card(kit, ada)
        ref = ObjectRef("virtual_smart_card", card)
        view = await kit.services.start_process(olga, LockCard.name, ref)
    async with running_portal(tmp_path, database=database_url) as kit:
        stored = await _process(kit, view.id)
    assert stored.variables["card"] == CoreObject(
        ObjectKind.VIRTUAL_SMART_CARD, card, "Card of ada@example.org"
    )


async def _next(kit: Kit, email: str, view: ProcessView, form: dict[str, list[str]]) -> ProcessView:
    """*Next*, and the same page once more, as after an answer that got lost."""
    session = await kit.login(email)
    first = await kit.services.next(session, view.id, view.version, form)
    assert await kit.services.next(session, view.id, view.version, form) == first
    return first

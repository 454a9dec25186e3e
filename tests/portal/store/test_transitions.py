"""Objects change state in one place: along their graph, for a reason, with an entry in the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from portal.errors import WrongReason, WrongState
from portal.model.graphs import Why
from portal.model.objects import CoreObject, ObjectKind
from portal.model.relations import HAS_A, REPLACES
from portal.store import audit, objects, relations
from portal.store.tables import AuditEntry, Card, Certificate, ObjectRelation
from portal.store.transitions import StateChange, change_state, is_final
from protocol.errors import InlayError
from tests.support.databases import BACKENDS
from tests.support.stored_objects import put_card, put_certificate, state_of_card, state_of_certificate

if TYPE_CHECKING:
    from tests.support.portal_kit import Kit

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


async def _entries(kit: Kit, object_id: str) -> list[AuditEntry]:
    query = select(AuditEntry).where(AuditEntry.object_id == object_id).order_by(AuditEntry.number)
    async with kit.database.read() as tx:
        return list(await tx.scalars(query))


async def _change(kit: Kit, table: type[Any], object_id: str, target: str, change: StateChange) -> None:
    async with kit.database.write() as tx:
        row = await tx.get_one(table, object_id, with_for_update=True)
        await change_state(tx, row, target, change)


def _for(why: Why) -> StateChange:
    return StateChange("olga@example.org", 17, why, "stolen on the train")


async def test_a_transition_that_there_is_not(kit: Kit) -> None:
    """Nothing is changed, nothing is written down, and the states that would do are named."""
    card = await put_card(kit, await kit.person())
    with pytest.raises(WrongState) as caught:
        await _change(kit, Card, card, "Registered", _for(Why.CREATED))
    assert caught.value.would_do == []
    certificate = await put_certificate(kit, await kit.login())
    with pytest.raises(WrongState) as caught:
        await _change(kit, Certificate, certificate, "Valid", _for(Why.REACTIVATED))
    assert caught.value.would_do == ["Issued", "On Hold"]
    assert await state_of_card(kit, card) == "Active"
    assert await _entries(kit, card) == await _entries(kit, certificate) == []


async def test_another_reason(kit: Kit) -> None:
    """A transition that there is, for a reason that isn't its own."""
    card = await put_card(kit, await kit.person())
    with pytest.raises(WrongReason) as caught:
        await _change(kit, Card, card, "Replaced", _for(Why.LOCKED))
    assert caught.value.would_do == ["lost"]
    assert (await state_of_card(kit, card), await _entries(kit, card)) == ("Active", [])


async def test_a_change_that_is_rolled_back(kit: Kit) -> None:
    """State and entry go together."""
    card = await put_card(kit, await kit.person())

    async def fail() -> None:
        async with kit.database.write() as tx:
            row = await tx.get_one(Card, card, with_for_update=True)
            await change_state(tx, row, "Locked", _for(Why.LOCKED))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert (await state_of_card(kit, card), await _entries(kit, card)) == ("Active", [])


@pytest.mark.parametrize(
    ("table", "target", "why", "kind"),
    [
        (Card, "Locked", Why.LOCKED, "virtual_smart_card"),
        (Card, "Inactive", Why.CHANGE_STATE, "virtual_smart_card"),
        (Certificate, "Revoked", Why.IN_CA, "certificate"),
    ],
)
async def test_a_change(kit: Kit, table: type[Any], target: str, why: Why, kind: str) -> None:
    """What, from what to what, who, when and why."""
    ada = await kit.person()
    object_id = await (put_card if table is Card else put_certificate)(kit, ada)
    before = await (state_of_card if table is Card else state_of_certificate)(kit, object_id)
    await _change(kit, table, object_id, target, _for(why))
    (entry,) = await _entries(kit, object_id)
    assert (entry.actor, entry.at, entry.action, entry.kind) == (
        "olga@example.org",
        17,
        f"{kind}.state",
        kind,
    )
    assert entry.details == {
        "before": before,
        "after": target,
        "why": why.value,
        "note": "stolen on the train",
    }
    async with kit.database.read() as tx:
        row = await tx.get_one(table, object_id)
        assert (row.state, row.changed_at) == (target, 17)
        assert is_final(tx, row) == (target != "Inactive")
        assert await audit.first_fault(tx) is None


async def test_relations(kit: Kit) -> None:
    """The default type where none is named, each once, an unknown one refused by name."""
    ada = await kit.person()
    async with kit.database.read() as tx:
        card = objects.describe(await objects.find(tx, "virtual_smart_card", await put_card(kit, ada)))
    ends = [CoreObject(ObjectKind.CERTIFICATE, await put_certificate(kit, ada)) for _ in range(2)]
    async with kit.database.write() as tx:
        for end in (*ends, ends[0]):
            await relations.relate(tx, card, end, actor="portal", at=5)
        await relations.relate(tx, card, card, REPLACES, actor="portal", at=6)
        with pytest.raises(InlayError) as caught:
            await relations.relate(tx, card, ends[0], "LOVES", actor="portal", at=5)
    assert (caught.value.code, caught.value.fields) == ("relation_unknown", {"relation": "LOVES"})
    async with kit.database.read() as tx:
        found = await relations.related(tx, card, HAS_A, ObjectKind.CERTIFICATE)
        assert set(found) == {end.id for end in ends}
        assert len(list(await tx.scalars(select(ObjectRelation)))) == 3
    assert [entry.action for entry in await _entries(kit, card.id)] == ["relation.made"] * 3

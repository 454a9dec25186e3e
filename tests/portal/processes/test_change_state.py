"""The steps *Change State* and *Change State in CA*: what they refuse, and that nothing is changed by halves."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from portal.ca.authority import Reason
from portal.errors import WrongState
from portal.model.objects import CoreObject, ObjectKind
from portal.model.states import CaState, CertificateState, Role
from portal.processes.change_state import ChangeState, ChangeStateInCa
from portal.processes.definition import Definition, Step, Target, Turn, finish
from portal.store import objects
from portal.store.tables import Certificate, Revocation
from portal.views import ObjectRef
from protocol.errors import InlayError
from tests.support.databases import BACKENDS
from tests.support.portal_kit import P256
from tests.support.stored_objects import put_card, put_certificate, state_of_card, state_of_certificate

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.definition import Parties
    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

HELD = "held"


class Changing(Definition):
    """An operator's process of one step, which changes what a variable holds."""

    name = "SampleChange"
    title = "Change"
    description = "Changes states."
    role = Role.OPERATOR
    target = Target(frozenset({ObjectKind.USER}), frozenset({"active"}))
    steps = (Step("ask", "Ask"), Step("done", "Done", settled=True))

    def __init__(self, what: ChangeState | ChangeStateInCa, held: Any) -> None:
        self._what, self._held = what, held

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        return {HELD: self._held}

    async def advance(self, turn: Turn) -> None:
        await self._what.run(turn, turn.process.created_at)
        finish(turn, "done")


@pytest.fixture
async def ada(kit: Kit) -> Session:
    """Whose objects they are."""
    return await kit.person()


async def carry_out(kit: Kit, ada: Session, what: ChangeState | ChangeStateInCa, held: Any) -> ProcessView:
    """Start the process as a new operator, and take its step."""
    olga = await kit.person(f"{secrets.token_hex(4)}@example.org", [Role.OPERATOR])
    kit.portal.engine.definitions[Changing.name] = Changing(what, held)
    view = await kit.services.start_process(olga, Changing.name, ObjectRef("user", ada.user.id))
    return await kit.services.next(olga, view.id, view.version)


def certificate(key: str) -> CoreObject:
    """A descriptor."""
    return CoreObject(ObjectKind.CERTIFICATE, key)


async def waiting(kit: Kit) -> list[Revocation]:
    """What waits for the CA."""
    async with kit.database.read() as tx:
        return list(await tx.scalars(select(Revocation)))


@pytest.mark.parametrize("what", [ChangeState(HELD, "Revoked"), ChangeStateInCa(HELD, "Revoked")])
@pytest.mark.parametrize(
    "held", ["a text", {"kind": "certificate"}, ["c1"], CoreObject(ObjectKind.USER, "u")]
)
async def test_a_variable_that_holds_no_such_object(
    kit: Kit, ada: Session, what: ChangeState | ChangeStateInCa, held: Any
) -> None:
    if isinstance(held, CoreObject):
        held = CoreObject(ObjectKind.USER, ada.user.id)
    with pytest.raises(InlayError) as caught:
        await carry_out(kit, ada, what, held)
    assert caught.value.code == "descriptor_invalid"
    assert await waiting(kit) == []


async def test_a_card_has_no_state_in_the_ca(kit: Kit, ada: Session) -> None:
    card = CoreObject(ObjectKind.VIRTUAL_SMART_CARD, await put_card(kit, ada))
    with pytest.raises(InlayError) as caught:
        await carry_out(kit, ada, ChangeStateInCa(HELD, "Revoked"), card)
    assert caught.value.code == "descriptor_invalid"
    assert await state_of_card(kit, card.id) == "Active"


async def test_a_transition_that_one_of_them_has_not_changes_none(kit: Kit, ada: Session) -> None:
    """The states that would do are named."""
    good, ended = await put_certificate(kit, ada), await put_certificate(kit, ada, CertificateState.REVOKED)
    both = [certificate(good), certificate(ended)]
    for what in (ChangeState(HELD, "On Hold"), ChangeStateInCa(HELD, "On Hold")):
        with pytest.raises(WrongState) as caught:
            await carry_out(kit, ada, what, both)
        assert caught.value.would_do == ["Valid"]
    assert (await state_of_certificate(kit, good), await waiting(kit)) == ("Valid", [])


@pytest.mark.parametrize("state", ["Issued", "Expired", "Nowhere"])
async def test_the_ca_knows_three_states(kit: Kit, ada: Session, state: str) -> None:
    held = certificate(await put_certificate(kit, ada))
    with pytest.raises(WrongState) as caught:
        await carry_out(kit, ada, ChangeStateInCa(HELD, state), held)
    assert caught.value.would_do == ["On Hold", "Revoked", "Valid"]
    assert await waiting(kit) == []


@pytest.mark.parametrize("held", [None, []])
async def test_nothing_held_is_nothing_done(kit: Kit, ada: Session, held: Any) -> None:
    for what in (ChangeState(HELD, "Revoked"), ChangeStateInCa(HELD, "Revoked")):
        assert (await carry_out(kit, ada, what, held)).state == "finished"
    assert await waiting(kit) == []


async def test_change_state_acts_in_the_portal_alone(kit: Kit, ada: Session) -> None:
    """Cards and certificates; what the CA says stays."""
    card, key = await put_card(kit, ada), await put_certificate(kit, ada)
    both = [CoreObject(ObjectKind.VIRTUAL_SMART_CARD, card), certificate(key)]
    await carry_out(kit, ada, ChangeState(HELD, "Expired"), both)
    assert (await state_of_card(kit, card), await state_of_certificate(kit, key)) == ("Expired", "Expired")
    async with kit.database.read() as tx:
        assert (await tx.get_one(Certificate, key)).ca_state == CaState.GOOD
    assert await waiting(kit) == []


async def test_change_state_in_ca_is_shown_when_the_ca_has_confirmed_it(kit: Kit, ada: Session) -> None:
    """On hold, valid again, revoked with its reason: pending until then."""
    await kit.portal.pause()
    await kit.set_options(**P256)
    _, agent = await kit.bound_agent(ada)
    await agent.complete()
    async with kit.database.read() as tx:
        row = (await tx.scalars(select(Certificate).where(Certificate.slot == "9A"))).one()
        held = objects.describe(row)
    for before, after, ca_state in (
        ("Valid", "On Hold", CaState.HELD),
        ("On Hold", "Valid", CaState.GOOD),
        ("Valid", "Revoked", CaState.REVOKED),
    ):
        await carry_out(kit, ada, ChangeStateInCa(HELD, after, Reason.PRIVILEGE_WITHDRAWN), held)
        assert await state_of_certificate(kit, held.id) == before
        assert len(await waiting(kit)) == 1
        await kit.portal.revocations.run_due()
        assert await state_of_certificate(kit, held.id) == after
        assert await kit.portal.ca.status(row.serial) is ca_state
    async with kit.database.read() as tx:
        assert (await tx.get_one(Certificate, held.id)).revocation_reason == "privilegeWithdrawn"

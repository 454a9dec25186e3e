"""The rules for certificates of Card Production and Card Operation tasks, one test for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from portal.model.objects import CoreObject
from portal.model.states import CaState, CertificateState
from portal.processes import tasks
from portal.processes.change_state import ChangeState, ChangeStateInCa
from portal.processes.definition import Turn
from portal.processes.parties import of
from portal.store.tables import CaCertificate, Card, Certificate, Process, User
from portal.views import ObjectRef
from protocol.messages import Algorithm, Certificates, Proceed
from tests.support import sample_tasks as samples
from tests.support.databases import BACKENDS
from tests.support.portal_kit import P256, Kit, running_portal
from tests.support.sample_tasks import OPERATION, PRODUCTION, SampleOperation, SampleProduction
from tests.support.software_agent import make_key
from tests.support.unruly_ca import UnrulyCa

if TYPE_CHECKING:
    from pathlib import Path

    from portal.views import ProcessView, Session
    from tests.support.software_agent import SoftwareAgent

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

CARD = "virtual_smart_card"


@pytest.fixture
async def ada(kit: Kit) -> Session:
    """A person, at a portal whose cards have P-256 keys."""
    await kit.set_options(**P256)
    return await kit.person()


async def production(kit: Kit, ada: Session, text: str = PRODUCTION) -> tuple[ProcessView, SoftwareAgent]:
    """A Card Production at *proceed*."""
    name = samples.use(kit, SampleProduction, text)
    return await samples.carried(kit, ada, await kit.services.start_process(ada, name))


async def operation(
    kit: Kit, ada: Session, text: str = OPERATION, **variables: Any
) -> tuple[ProcessView, SoftwareAgent]:
    """A Card Operation on a card that a production has made, at *proceed*."""
    view, agent = await production(kit, ada)
    await agent.complete()
    view = await kit.services.process(ada, view.id)
    assert view.card is not None
    await kit.services.next(ada, view.id, view.version)
    name = samples.use(kit, SampleOperation, text, **variables)
    view = await kit.services.start_process(ada, name, ObjectRef(CARD, view.card.id))
    return await samples.carried(kit, ada, view, await samples.again(kit, agent))


async def fail_after_writing(kit: Kit, ada: Session, view: ProcessView, agent: SoftwareAgent) -> None:
    """The certificates were sent and written; then the person cancels in the portal."""
    await agent.make_card()
    await kit.services.cancel(ada, view.id)


async def card_of(kit: Kit, view: ProcessView) -> str:
    """Id of the card that a process's variables hold."""
    held = (await samples.variables_of(kit, view.id))[tasks.CARD]
    assert isinstance(held, CoreObject)
    return held.id


async def count_of_certificates(kit: Kit) -> int:
    """How many certificates are stored."""
    async with kit.database.read() as tx:
        return (await tx.execute(select(func.count()).select_from(Certificate))).scalar_one()


# --- states


async def test_a_requested_certificate_is_stored_in_state_issued_before_it_is_sent(
    kit: Kit, ada: Session
) -> None:
    view, agent = await production(kit, ada)
    assert isinstance(await agent.hear(), Proceed)
    assert agent.order is not None
    await agent.say(agent.card.requests(agent.order))
    sent = await agent.hear()
    assert isinstance(sent, Certificates)
    stored = await samples.certificates_of(kit, view.id)
    assert {item.slot: item.certificate for item in sent.certificates} == {
        slot: row.der for slot, row in stored.items()
    }
    assert {row.state for row in stored.values()} == {CertificateState.ISSUED.value}


async def test_certificates_go_to_their_start_state_when_the_whole_task_has_succeeded(
    kit: Kit, ada: Session
) -> None:
    view, agent = await production(kit, ada)
    await agent.complete()
    stored = await samples.certificates_of(kit, view.id)
    assert [row.state for row in stored.values()] == ["Valid", "Valid"]


async def test_certificates_of_a_task_that_ended_in_an_error_stay_issued_and_are_revoked(
    kit: Kit, ada: Session
) -> None:
    view, agent = await production(kit, ada)
    await fail_after_writing(kit, ada, view, agent)
    stored = await samples.certificates_of(kit, view.id)
    assert [row.state for row in stored.values()] == ["Issued", "Issued"]
    assert await kit.valid_at_ca() == []
    stored = await samples.certificates_of(kit, view.id)
    assert [row.state for row in stored.values()] == ["Revoked", "Revoked"]


async def test_one_certificate_that_is_refused_keeps_the_others_from_their_start_state(
    tmp_path: Path,
    database_url: str,
) -> None:
    ca = UnrulyCa()
    ca.refuse = "signature"
    async with running_portal(tmp_path, ca=ca, database=database_url) as kit:
        await kit.set_options(**P256)
        ada = await kit.person()
        view, agent = await production(kit, ada)
        assert isinstance(await agent.hear(), Proceed)
        assert agent.order is not None
        await agent.say(agent.card.requests(agent.order))
        assert (await kit.ended(ada, view.id)).state == "undone"
        stored = await samples.certificates_of(kit, view.id)
        assert [(slot, row.state) for slot, row in stored.items()] == [("9A", "Issued")]
        assert await kit.valid_at_ca() == []


# --- revokeOnIssue


async def test_revoke_on_issue_holds_at_the_ca_while_the_portal_shows_the_start_state(
    kit: Kit, ada: Session
) -> None:
    text = PRODUCTION.replace("[Application_B]", "[Application_B]\nrevokeOnIssue=true")
    view, agent = await production(kit, ada, text)
    await agent.complete()
    held = (await samples.certificates_of(kit, view.id))["9C"]
    assert (held.state, held.ca_state) == ("Valid", CaState.HELD)
    assert await kit.portal.ca.status(held.serial) is CaState.HELD


async def test_revoke_on_issue_of_a_task_that_ended_in_an_error_is_revoked_for_good(
    kit: Kit, ada: Session
) -> None:
    """Not left on hold, from where it could be released."""
    text = PRODUCTION.replace("[Application_B]", "[Application_B]\nrevokeOnIssue=true")
    view, agent = await production(kit, ada, text)
    await fail_after_writing(kit, ada, view, agent)
    held = (await samples.certificates_of(kit, view.id))["9C"]
    assert (held.state, held.ca_state) == ("Issued", CaState.HELD)
    await kit.portal.revocations.run_due()
    revoked = (await samples.certificates_of(kit, view.id))["9C"]
    assert (revoked.state, revoked.ca_state) == ("Revoked", CaState.REVOKED)
    assert await kit.portal.ca.status(revoked.serial) is CaState.REVOKED


async def test_revoke_on_issue_is_not_released_by_the_proof(kit: Kit, ada: Session) -> None:
    """With ``HoldUntilProof`` both are issued on hold; the proof releases what was on hold for it alone."""
    await kit.set_options(HoldUntilProof=True)
    text = PRODUCTION.replace("[Application_B]", "[Application_B]\nrevokeOnIssue=true")
    view, agent = await production(kit, ada, text)
    receipt = await agent.make_card()
    made = await samples.certificates_of(kit, view.id)
    assert {slot: row.ca_state for slot, row in made.items()} == {"9A": "held", "9C": "held"}
    await agent.say(receipt)
    assert (await kit.ended(ada, view.id)).state == "finished"
    await kit.portal.revocations.run_due()
    ended = await samples.certificates_of(kit, view.id)
    assert {slot: (row.state, row.ca_state) for slot, row in ended.items()} == {
        "9A": ("Valid", "good"),
        "9C": ("Valid", "held"),
    }


async def test_a_change_state_step_shows_what_the_ca_has_had_on_hold_and_one_in_the_ca_releases_it(
    kit: Kit, ada: Session
) -> None:
    text = PRODUCTION.replace(
        "CertCoreObjectDescriptorReturnField=GeneratedCertApp_A",
        "CertCoreObjectDescriptorReturnField=GeneratedCertApp_A\nrevokeOnIssue=true",
    )
    view, agent = await production(kit, ada, text)
    await agent.complete()
    await step(kit, ada, view, ChangeState(samples.VARIABLE, "On Hold"))
    held = (await samples.certificates_of(kit, view.id))["9A"]
    assert (held.state, held.ca_state) == ("On Hold", CaState.HELD)
    await step(kit, ada, view, ChangeStateInCa(samples.VARIABLE, "Valid"))
    held = (await samples.certificates_of(kit, view.id))["9A"]
    assert (held.state, held.ca_state) == ("On Hold", CaState.HELD)  # until the CA has confirmed
    await kit.portal.revocations.run_due()
    released = (await samples.certificates_of(kit, view.id))["9A"]
    assert (released.state, released.ca_state) == ("Valid", CaState.GOOD)
    assert await kit.portal.ca.status(released.serial) is CaState.GOOD


async def step(kit: Kit, ada: Session, view: ProcessView, what: ChangeState | ChangeStateInCa) -> None:
    """Run a process step by itself."""
    async with kit.database.write() as tx:
        process = await tx.get_one(Process, view.id)
        parties = await of(tx, process, await tx.get_one(User, ada.user.id))
        await what.run(Turn(tx, process, None, ada, {}, parties), kit.clock())


# --- CreateObjectRelation


@pytest.mark.parametrize("well", [False, True], ids=["error", "success"])
@pytest.mark.parametrize("task", ["production", "operation"])
@pytest.mark.parametrize("rule", ["always", "success", "never"])
async def test_create_object_relation(kit: Kit, ada: Session, rule: str, task: str, well: bool) -> None:
    text = (PRODUCTION if task == "production" else OPERATION).replace("=always", f"={rule}")
    view, agent = await (production if task == "production" else operation)(kit, ada, text)
    if well:
        await agent.complete()
    else:
        await fail_after_writing(kit, ada, view, agent)
    stored = await samples.certificates_of(kit, view.id)
    related = await samples.relations_of(kit, await card_of(kit, view))
    assert (stored["9A"].id in related) == (rule == "always" or (rule == "success" and well))
    assert (stored["9C"].id in related) == well  # success is the default


async def test_always_without_a_card_is_an_error_and_nothing_is_issued(kit: Kit, ada: Session) -> None:
    view, agent = await operation(kit, ada, card=None)
    before = await kit.valid_at_ca()
    assert isinstance(await agent.hear(), Proceed)
    assert agent.order is not None
    await agent.say(agent.card.requests(agent.order))
    ended = await kit.ended(ada, view.id)
    assert ended.error is not None
    assert ended.error.error == "relation_without_card"
    assert await kit.valid_at_ca() == before
    assert await samples.certificates_of(kit, view.id) == {}


async def test_success_without_a_card_makes_no_relation(kit: Kit, ada: Session) -> None:
    view, agent = await operation(kit, ada, OPERATION.replace("=always", "=success"), card=None)
    await agent.complete()
    stored = await samples.certificates_of(kit, view.id)
    assert [row.state for row in stored.values()] == ["Valid", "Valid"]
    async with kit.database.read() as tx:
        (card,) = (await tx.scalars(select(Card.id))).all()
    assert not {row.id for row in stored.values()} & set(await samples.relations_of(kit, card))


async def test_object_relation_type_is_that_of_the_relation(kit: Kit, ada: Session) -> None:
    view, agent = await production(kit, ada, PRODUCTION.replace("=HAS_A", "=REPLACES"))
    await agent.complete()
    stored = await samples.certificates_of(kit, view.id)
    related = await samples.relations_of(kit, await card_of(kit, view))
    assert related == {stored["9A"].id: "REPLACES", stored["9C"].id: "HAS_A"}  # HAS_A: the portal's default


async def test_a_relation_type_that_is_none_is_refused_before_anything_is_issued(
    kit: Kit, ada: Session
) -> None:
    view, agent = await production(kit, ada, PRODUCTION.replace("=HAS_A", "=NONSENSE"))
    assert isinstance(await agent.hear(), Proceed)
    assert agent.order is not None
    await agent.say(agent.card.requests(agent.order))
    ended = await kit.ended(ada, view.id)
    assert ended.error is not None
    assert ended.error.error == "relation_unknown"
    assert await kit.valid_at_ca() == []


# --- CertCoreObjectDescriptorReturnField


@pytest.mark.parametrize("well", [False, True], ids=["error", "success"])
async def test_the_return_field_receives_the_descriptor_also_when_the_task_ends_in_an_error(
    kit: Kit, ada: Session, well: bool
) -> None:
    view, agent = await production(kit, ada)
    if well:
        await agent.complete()
    else:
        await fail_after_writing(kit, ada, view, agent)
    stored = await samples.certificates_of(kit, view.id)
    variables = await samples.variables_of(kit, view.id)
    assert variables[samples.VARIABLE] == samples.descriptor(stored["9A"])


async def test_a_certificate_that_arrives_after_the_error_is_received_too_and_revoked(
    tmp_path: Path, database_url: str
) -> None:
    ca = UnrulyCa()
    ca.lose = "authentication"
    async with running_portal(tmp_path, ca=ca, database=database_url) as kit:
        await kit.set_options(**P256)
        ada = await kit.person()
        view, agent = await production(kit, ada)
        assert isinstance(await agent.hear(), Proceed)
        assert agent.order is not None
        await agent.say(agent.card.requests(agent.order))
        assert (await kit.ended(ada, view.id)).state == "undone"
        assert samples.VARIABLE not in await samples.variables_of(kit, view.id)
        ca.lose = ""
        await kit.portal.reconciler.run()
        stored = await samples.certificates_of(kit, view.id)
        variables = await samples.variables_of(kit, view.id)
        assert variables[samples.VARIABLE] == samples.descriptor(stored["9A"])
        assert await kit.valid_at_ca() == []
        related = await samples.relations_of(kit, await card_of(kit, view))
        assert related == {stored["9A"].id: "HAS_A"}  # always


async def test_clear_fields_empties_the_variables_that_were_read(kit: Kit, ada: Session) -> None:
    view, agent = await production(kit, ada, PRODUCTION.replace("SetPIN", "ClearFields=true\nSetPIN"))
    await agent.complete()
    variables = await samples.variables_of(kit, view.id)
    assert variables["label"] is None
    assert variables[samples.VARIABLE] is not None


async def test_a_plan_is_made_once(kit: Kit, ada: Session) -> None:
    """What is changed in the description while an order is under way doesn't touch it."""
    view, agent = await production(kit, ada)
    samples.use(kit, SampleProduction, PRODUCTION.replace("=always", "=never"))
    await fail_after_writing(kit, ada, view, agent)
    stored = await samples.certificates_of(kit, view.id)
    assert stored["9A"].id in await samples.relations_of(kit, await card_of(kit, view))


async def test_nothing_is_stored_twice_when_messages_are_carried_out_again(kit: Kit, ada: Session) -> None:
    view, agent = await production(kit, ada)
    await agent.complete()
    assert agent.order is not None
    count = await count_of_certificates(kit)
    related = await samples.relations_of(kit, await card_of(kit, view))
    await kit.portal.incoming.carry_out_now(agent.order.jti)
    await kit.portal.incoming.finish(agent.order.jti)
    assert await count_of_certificates(kit) == count
    assert await samples.relations_of(kit, await card_of(kit, view)) == related
    async with kit.database.read() as tx:
        issued = select(func.count()).select_from(CaCertificate).where(~CaCertificate.own)
        assert (await tx.execute(issued)).scalar_one() == 2


# --- keys that a card keeps

_KEEP = OPERATION.replace("KeyReference=#9A", "KeyReference=#9A\nKeySource=#keep")


async def test_a_key_to_be_kept_that_is_another_key_is_refused(kit: Kit, ada: Session) -> None:
    view, agent = await operation(kit, ada, _KEEP)
    agent.card.keys["9A"] = make_key(Algorithm.P_256)
    assert isinstance(await agent.hear(), Proceed)
    assert agent.order is not None
    await agent.say(agent.card.requests(agent.order))
    ended = await kit.ended(ada, view.id)
    assert ended.error is not None
    assert ended.error.error == "request_invalid"
    assert await samples.certificates_of(kit, view.id) == {}


async def test_a_key_that_is_kept_is_certified_anew(kit: Kit, ada: Session) -> None:
    view, agent = await operation(kit, ada, _KEEP)
    before = dict(agent.card.keys)
    await agent.complete()
    assert agent.card.keys["9A"] is before["9A"]
    assert agent.card.keys["9C"] is not before["9C"]
    stored = await samples.certificates_of(kit, view.id)
    assert [stored[slot].state for slot in ("9A", "9C")] == ["Valid", "Valid"]
    assert len(await kit.valid_at_ca()) == 2  # the old ones are superseded

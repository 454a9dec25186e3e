"""The rules of certificates that a task recovers: stored once, their state untouched, a relation allowed, no field."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from sqlalchemy import func, select

from portal.encoding.binding import bind
from portal.encoding.parser import parse
from portal.encoding.rules import Usage
from portal.processes import tasks
from portal.processes.replace_virtual_smart_card import ReplaceVirtualSmartCard
from portal.store.tables import ArchivedKey, AuditEntry, Certificate
from portal.views import ObjectRef
from tests.support import sample_tasks as samples
from tests.support.databases import BACKENDS
from tests.support.portal_kit import P256, Kit
from tests.support.software_agent import SoftwareCard

if TYPE_CHECKING:
    from portal.views import ProcessView, Session
    from tests.support.software_agent import SoftwareAgent

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

ENDS = pytest.mark.parametrize("well", [False, True], ids=["error", "success"])
VARIABLE = "theRecoveredCertificate"
_DESCRIPTION = samples.PRODUCTION.replace("LABEL=\n", "LABEL=\nOLD=\nRecovered=\n") + (
    "[Application_C]\n"
    "KeyReference=#9D\n"
    "RecoverCertificate=OLD\n"
    "CreateObjectRelation={rule}\n"
    "ObjectRelationType=REPLACES\n"
    "CertCoreObjectDescriptorReturnField=Recovered\n"
)
_MAPPING = samples.MAPPING | {"OLD": "${recovered_certificates}", "Recovered": f"${{{VARIABLE}}}"}


class SampleRecovery(ReplaceVirtualSmartCard):
    """A Card Production with two new certificates and one that is recovered."""

    name = "SampleRecovery"


class Owner(NamedTuple):
    """A person whose card has an encryption certificate that can be recovered."""

    session: Session
    card: str
    certificate: Certificate
    agent: SoftwareAgent


@pytest.fixture
async def ada(kit: Kit) -> Owner:
    """With P-256 keys."""
    await kit.set_options(**P256)
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    await agent.complete()
    view = await kit.services.process(session, view.id)
    await kit.services.next(session, view.id, view.version)
    assert view.card is not None
    return Owner(session, view.card.id, (await samples.certificates_of(kit, view.id))["9D"], agent)


async def recover(kit: Kit, ada: Owner, *, well: bool, rule: str = "success") -> tuple[ProcessView, str]:
    """Carry the task out on a new card, which gets all three certificates; the process, and the new card's id.

    Not well: when everything is written the person cancels in the portal.
    """
    SampleRecovery.encoding = bind(parse(_DESCRIPTION.format(rule=rule)), Usage.PRODUCTION, _MAPPING)
    kit.portal.engine.definitions[SampleRecovery.name] = SampleRecovery(kit.portal.context)
    device = await samples.again(kit, ada.agent)
    device.card = SoftwareCard()
    view = await kit.services.start_process(
        ada.session, SampleRecovery.name, ObjectRef("virtual_smart_card", ada.card)
    )
    view, device = await samples.carried(kit, ada.session, view, device)
    receipt = await device.make_card()
    assert device.card.certificates["9D"] == ada.certificate.der
    if well:
        await device.say(receipt)
        assert (await kit.ended(ada.session, view.id)).state == "finished"
    else:
        await kit.services.cancel(ada.session, view.id)
    return view, (await samples.variables_of(kit, view.id))[tasks.CARD].id


async def put_in_state(kit: Kit, certificate: Certificate, state: str, ca_state: str) -> None:
    """Whatever led there."""
    async with kit.database.write() as tx:
        row = await tx.get_one(Certificate, certificate.id)
        row.state, row.ca_state = state, ca_state


async def facts(kit: Kit, certificate: Certificate) -> dict[str, object]:
    """All that is stored of a certificate, and what the audit log has of it."""
    logged = select(func.count()).where(AuditEntry.object_id == certificate.id)
    async with kit.database.read() as tx:
        row = await tx.get_one(Certificate, certificate.id)
        found = {column.key: getattr(row, column.key) for column in Certificate.__table__.columns}
        return found | {"audit": (await tx.execute(logged)).scalar_one()}


async def counted(kit: Kit) -> tuple[int, int]:
    """How many certificates and archived keys are stored."""
    async with kit.database.read() as tx:
        certificates = (await tx.execute(select(func.count()).select_from(Certificate))).scalar_one()
        return certificates, (await tx.execute(select(func.count()).select_from(ArchivedKey))).scalar_one()


@ENDS
@pytest.mark.parametrize(
    ("state", "ca_state"), [("Valid", "good"), ("On Hold", "held"), ("Revoked", "revoked")]
)
async def test_a_recovered_certificate_is_not_stored_again_and_its_state_is_untouched(
    kit: Kit, ada: Owner, state: str, ca_state: str, well: bool
) -> None:
    await put_in_state(kit, ada.certificate, state, ca_state)
    before, (certificates, keys) = await facts(kit, ada.certificate), await counted(kit)
    view, _ = await recover(kit, ada, well=well)
    assert await facts(kit, ada.certificate) == before
    assert await counted(kit) == (certificates + 2, keys)
    await kit.portal.reconciler.run()
    await kit.portal.revocations.run_due()
    assert await facts(kit, ada.certificate) == before
    new = await samples.certificates_of(kit, view.id)
    assert {slot: row.state for slot, row in new.items()} == dict.fromkeys(
        ("9A", "9C"), "Valid" if well else "Revoked"
    )


@ENDS
@pytest.mark.parametrize("rule", ["always", "success", "never"])
async def test_create_object_relation_of_a_recovered_certificate(
    kit: Kit, ada: Owner, rule: str, well: bool
) -> None:
    _, card = await recover(kit, ada, well=well, rule=rule)
    related = (await samples.relations_of(kit, card)).get(ada.certificate.id)
    assert related == ("REPLACES" if rule == "always" or (rule == "success" and well) else None)


@ENDS
async def test_the_return_field_has_no_effect_on_recovery(kit: Kit, ada: Owner, well: bool) -> None:
    view, _ = await recover(kit, ada, well=well)
    variables = await samples.variables_of(kit, view.id)
    assert VARIABLE not in variables
    assert samples.VARIABLE in variables  # that of the requested one

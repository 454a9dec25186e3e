"""Tasks of made-up encoding descriptions, in the place of those that the portal ships."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from portal.encoding.binding import bind
from portal.encoding.parser import parse
from portal.encoding.rules import Usage
from portal.model.objects import CoreObject, ObjectKind
from portal.processes.get_virtual_smart_card import GetVirtualSmartCard
from portal.processes.renew_virtual_smart_card import RenewVirtualSmartCard
from portal.store.tables import Certificate, ObjectRelation, Order, Process

if TYPE_CHECKING:
    from portal.processes.definition import Definition
    from portal.views import CodeView, ProcessView, Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

_HEAD = """\
# The sample with two applications
[Encoding]
Type=1024,Chip
[Fields]
LABEL=
GeneratedCertApp_A=
[Description]
"""
_APPLICATIONS = """\
[Application_A]
KeyReference=#9A
KeyAlgorithm=#P-256
CertificateTemplate=#authentication
CreateObjectRelation=always
ObjectRelationType=HAS_A
CertCoreObjectDescriptorReturnField=GeneratedCertApp_A
[Application_B]
KeyReference=#9C
KeyAlgorithm=#P-256
CertificateTemplate=#signature
"""
PRODUCTION = (
    _HEAD + "InitToken=true\nInitialLabel=LABEL\nSetPIN=true\nPIN=!FROM_USER_DIALOG_2_FIELD\n" + _APPLICATIONS
)
OPERATION = _HEAD + "PIN=!FROM_USER_DIALOG_1_FIELD\n" + _APPLICATIONS
SAMPLE = (
    _HEAD.replace("LABEL=", "PUK_FIELD=")
    + "SetPIN=true\nInitialPUK=PUK_FIELD\nPIN=!FROM_USER_DIALOG_2_FIELD\n"
    + _APPLICATIONS
)
"""With a new PIN that is set by the card's PUK, as the sample has it."""
SAMPLE_MAPPING = {"PUK_FIELD": "${card}", "GeneratedCertApp_A": "${theGeneratedCertificate}"}
MAPPING = {"LABEL": "${label}", "GeneratedCertApp_A": "${theGeneratedCertificate}"}
VARIABLE = "theGeneratedCertificate"


class SampleProduction(GetVirtualSmartCard):
    """Makes a card as the sample says."""

    name = "SampleProduction"
    encoding = bind(parse(PRODUCTION), Usage.PRODUCTION, MAPPING)


class SampleOperation(RenewVirtualSmartCard):
    """Encodes a card as the sample says."""

    name = "SampleOperation"
    encoding = bind(parse(OPERATION), Usage.OPERATION, MAPPING)


def use(kit: Kit, definition: type[Definition], text: str | None = None, **variables: Any) -> str:
    """Have a portal offer a task.

    Args:
        kit: the portal.
        definition: a sample.
        text: its description in another wording.
        variables: process variables beside the process's own.

    Returns:
        The process's name.
    """

    class Used(definition):  # type: ignore[valid-type,misc]
        async def variables(self, tx: Any, parties: Any) -> dict[str, Any]:
            return {**await super().variables(tx, parties), **variables}

    if text is not None:
        usage = Usage.PRODUCTION if issubclass(definition, SampleProduction) else Usage.OPERATION
        Used.encoding = bind(parse(text), usage, SAMPLE_MAPPING if text == SAMPLE else MAPPING)

    kit.portal.engine.definitions[definition.name] = Used(kit.portal.context)
    return definition.name


async def opened(kit: Kit, session: Session, view: ProcessView) -> tuple[ProcessView, CodeView]:
    """A process that was just started, at the step *open*, and a code."""
    view = await kit.services.next(session, view.id, view.version)
    return view, await kit.services.new_code(session, view.id)


async def carried(
    kit: Kit, session: Session, view: ProcessView, agent: SoftwareAgent | None = None
) -> tuple[ProcessView, SoftwareAgent]:
    """A process whose order a device has claimed and is bound to: at *proceed*."""
    view, code = await opened(kit, session, view)
    known = agent is not None
    agent = agent or await kit.agent()
    await agent.claim(code.code)
    await agent.consent(number=None if known else "417")
    if not known:
        await kit.bind(session, view.id, "417")
    return view, agent


async def again(kit: Kit, agent: SoftwareAgent) -> SoftwareAgent:
    """The same device with the same card, ready for another order."""
    other = await kit.agent()
    other.device, other.card = agent.device, agent.card
    return other


async def certificates_of(kit: Kit, process_id: str) -> dict[str, Certificate]:
    """The certificates that a process's order has had issued, by slot."""
    jti = select(Order.jti).where(Order.process_id == process_id)
    async with kit.database.read() as tx:
        rows = await tx.scalars(select(Certificate).where(Certificate.order_jti.in_(jti)))
        return {row.slot: row for row in rows}


async def relations_of(kit: Kit, card_id: str) -> dict[str, str]:
    """Id of each certificate that is related to a card, and the relation's type."""
    query = select(ObjectRelation).where(
        ObjectRelation.from_id == card_id, ObjectRelation.to_kind == "certificate"
    )
    async with kit.database.read() as tx:
        return {row.to_id: row.relation for row in await tx.scalars(query)}


async def variables_of(kit: Kit, process_id: str) -> dict[str, Any]:
    """A process's variables."""
    async with kit.database.read() as tx:
        return dict((await tx.get_one(Process, process_id)).variables)


def descriptor(certificate: Certificate) -> CoreObject:
    """What a return field receives."""
    label = f"{certificate.profile} {certificate.serial}"
    return CoreObject(ObjectKind.CERTIFICATE, certificate.id, label)

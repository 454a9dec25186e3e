"""Batches of temporary cards as tests have them: ordered, and their cards made by a device or pulled out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select

from portal.model.states import ProcessState
from portal.processes.issue_multiple_temporary_cards import IssueMultipleTemporaryCards
from protocol.messages import (
    Changing,
    EncodeCard,
    ErrorData,
    Finished,
    IdentityAnswer,
    IdentityQuestion,
    ManagementAlgorithm,
    Proceed,
    Receipt,
    Undone,
)

if TYPE_CHECKING:
    from portal.staff.batches import BatchView
    from portal.views import Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

AES: Final = ManagementAlgorithm.AES_192
TORN: Final = ErrorData(error="pcsc_card_removed", fields={"reader": "One"})


async def batch_of(kit: Kit, session: Session, count: int = 3, first: int = 1) -> str:
    """A batch that was ordered from the start page."""
    view = await kit.services.start_process(session, IssueMultipleTemporaryCards.name)
    form = {"Label": ["Visitor"], "Count": [str(count)], "First": [str(first)]}
    view = await kit.services.next(session, view.id, view.version, form)
    assert view.state is ProcessState.FINISHED
    return view.batch


async def seen(kit: Kit, session: Session, batch: str) -> BatchView:
    """The batch, as its page has it."""
    return await kit.portal.batches.one(session, batch)


async def states(kit: Kit, session: Session, batch: str) -> list[str]:
    """Of its cards, in their order."""
    return [place.state for place in (await seen(kit, session, batch)).places]


async def count(kit: Kit, table: type[Any]) -> int:
    """Rows of a table."""
    async with kit.database.read() as tx:
        return await tx.scalar(select(func.count()).select_from(table)) or 0


async def begun(
    kit: Kit, session: Session, process: str | None, device: SoftwareAgent | None = None
) -> tuple[SoftwareAgent, Proceed]:
    """The order of a process that a device has claimed and agreed to, up to the portal's word to go on."""
    assert process is not None
    code = await kit.services.new_code(session, process)
    agent = await kit.agent()
    if device is not None:
        agent.device = device.device
    await agent.claim(code.code)
    assert agent.order is not None
    if agent.order.binding == "number":
        await agent.consent(number="417")
        await kit.bind(session, process, "417")
    else:
        await agent.consent()
    proceed = await agent.hear()
    assert isinstance(proceed, Proceed)
    return agent, proceed


async def said(agent: SoftwareAgent, guid: str | None, serial: str | None, number: int = 1) -> str | None:
    """What the portal says to a card that is put in: the name of its own card that it is, or nothing."""
    await agent.say(IdentityQuestion(number=number, guid=guid, serial=serial))
    answer = await agent.hear()
    assert isinstance(answer, IdentityAnswer), answer
    return answer.label


async def written(agent: SoftwareAgent, serial: str | None = None) -> None:
    """A card that the portal doesn't know takes everything that the order has for it."""
    assert await said(agent, None, serial) is None
    await agent.say(Changing())
    await agent.say(Receipt(guid=_ordered(agent).guid, management_replaced=AES, puk_replaced=True))
    assert isinstance(await agent.hear(), Finished)


async def torn(kit: Kit, agent: SoftwareAgent, serial: str | None = None) -> None:
    """A card that the portal doesn't know is pulled out for good while it is changed."""
    assert agent.order is not None
    assert await said(agent, None, serial) is None
    await agent.say(Changing())
    await agent.say(Undone(error=TORN))
    await kit.portal.incoming.carry_out_now(agent.order.jti)


def _ordered(agent: SoftwareAgent) -> EncodeCard:
    assert agent.order is not None
    parameters = agent.order.parameters
    assert isinstance(parameters, EncodeCard)
    return parameters

"""Cards that operators ask for, approve and issue, with a device that has no card but answers as one with it would."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select

from portal.model.card_options import CARDS
from portal.model.states import Role
from portal.processes.activate_card import ActivateCard
from portal.processes.issue_card import IssueCard
from portal.processes.request_card import RequestCard
from portal.store.tables import Card, CardLetter, Certificate, Process
from portal.views import ObjectRef
from protocol.messages import (
    Certificates,
    Changing,
    EncodeCard,
    Finished,
    ManagementAlgorithm,
    Proceed,
    Receipt,
)
from tests.support.card_signatures import authentication

if TYPE_CHECKING:
    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

ISSUE = IssueCard.name
SERIAL = "00 42"


class Staff(NamedTuple):
    """Who has to do with cards: administrator, operator, approver."""

    root: Session
    olga: Session
    paul: Session


async def staff(kit: Kit) -> Staff:
    """The people, and the option that keeps keys cheap."""
    root = await kit.person("root@example.org", [Role.ADMINISTRATOR])
    await options(kit, root, CardsKeyAlgorithm=["P-256"], CardsCertificates=["authentication"])
    olga = await kit.person("olga@example.org", [Role.OPERATOR, Role.APPROVER])
    return Staff(root, olga, await kit.person("paul@example.org", [Role.APPROVER]))


async def options(kit: Kit, root: Session, **changed: list[str]) -> None:
    """Save options of cards."""
    await kit.save_options(root, CARDS, **changed)


async def requested(
    kit: Kit, olga: Session, person: Session, label: str = "Badge"
) -> tuple[ProcessView, str]:
    """A card that waits for its approval: the process, and the card's id."""
    view = await kit.services.start_process(olga, RequestCard.name, ObjectRef("user", person.user.id))
    form = {"Label": [label], "Reason": ["new here"]}
    view = await kit.services.next(olga, view.id, view.version, form)
    async with kit.database.read() as tx:
        process = await tx.get_one(Process, view.id)
        card: str = process.variables["card"].id
    return view, card


async def decide(kit: Kit, paul: Session, view: ProcessView, decision: str) -> ProcessView:
    """The approver's word."""
    seen = await kit.services.process(paul, view.id)
    return await kit.services.next(paul, view.id, seen.version, {"Decision": [decision]})


async def approved(kit: Kit, people: Staff, person: Session, label: str = "Badge") -> str:
    """A card that can be issued; its id."""
    view, card = await requested(kit, people.olga, person, label)
    await decide(kit, people.paul, view, "approve")
    return card


async def step(
    kit: Kit, session: Session, process: str, card: str, form: dict[str, list[str]] | None = None
) -> ProcessView:
    """Start a process on a card, and take its first step."""
    view = await kit.services.start_process(session, process, ObjectRef("card", card))
    return await kit.services.next(session, view.id, view.version, form or {})


class Begun(NamedTuple):
    """An order to issue a card that a device has claimed and agreed to, and that is bound."""

    view: ProcessView
    agent: SoftwareAgent
    proceed: Proceed

    @property
    def ordered(self) -> EncodeCard:
        """Its parameters."""
        assert self.agent.order is not None
        assert isinstance(self.agent.order.parameters, EncodeCard)
        return self.agent.order.parameters

    @property
    def pin(self) -> str:
        """The PIN that came with it."""
        assert self.proceed.pin is not None
        return bytes(self.agent.ephemeral.decrypt(self.proceed.pin)).decode()


async def begun(
    kit: Kit, olga: Session, card: str, device: SoftwareAgent | None = None, serial: str = SERIAL
) -> Begun:
    """Begin to issue a card."""
    view = await step(kit, olga, ISSUE, card, {"Serial": [serial]})
    code = await kit.services.new_code(olga, view.id)
    agent = await kit.agent()
    if device is not None:
        agent.device = device.device
    await agent.claim(code.code)
    assert agent.order is not None
    if agent.order.binding == "number":
        await agent.consent(number="417")
        await kit.bind(olga, view.id, "417")
    else:
        await agent.consent()
    proceed = await agent.hear()
    assert isinstance(proceed, Proceed), proceed
    found = Begun(view, agent, proceed)
    agent.card.guid, agent.card.serial = found.ordered.guid, serial.replace(" ", "").lstrip("0")
    return found


async def certified(work: Begun) -> Certificates:
    """Change the card, ask for certificates, and get them."""
    assert work.agent.order is not None
    await work.agent.say(Changing())
    await work.agent.say(work.agent.card.requests(work.agent.order))
    answer = await work.agent.hear()
    assert isinstance(answer, Certificates), answer
    return answer


def receipt(work: Begun, answer: Certificates) -> Receipt:
    """Everything was done."""
    assert work.agent.order is not None
    proofs = [
        work.agent.card.prove(work.agent.order, item, work.agent.ephemeral) for item in answer.certificates
    ]
    return Receipt(
        guid=work.agent.card.guid,
        proofs=proofs,
        management_replaced=ManagementAlgorithm.AES_192 if work.proceed.management_keys else None,
        puk_replaced=work.proceed.new_puk is not None,
    )


async def complete(work: Begun) -> None:
    """To the portal's end."""
    await work.agent.say(receipt(work, await certified(work)))
    heard = await work.agent.hear()
    assert isinstance(heard, Finished), heard


async def issued(kit: Kit, people: Staff, person: Session, serial: str = SERIAL) -> tuple[str, Begun]:
    """A card that was issued, and whose letters are not printed yet."""
    card = await approved(kit, people, person)
    work = await begun(kit, people.olga, card, serial=serial)
    await complete(work)
    return card, work


async def active(kit: Kit, people: Staff, person: Session, serial: str = SERIAL) -> str:
    """A card that its holder has activated."""
    card, work = await issued(kit, people, person, serial)
    await activate(kit, person, card, work)
    await kit.portal.revocations.run_due()
    return card


async def activating(
    kit: Kit, person: Session, card: str, work: Begun, process: str = ActivateCard.name
) -> tuple[ProcessView, SoftwareAgent, Proceed]:
    """A process of the holder's whose order the device with the card has claimed and agreed to; bound."""
    view = await step(kit, person, process, card)
    code = await kit.services.new_code(person, view.id)
    agent = await kit.agent()
    agent.device, agent.card = work.agent.device, work.agent.card
    await agent.claim(code.code)
    assert agent.order is not None
    assert agent.order.binding == "number"
    await agent.consent(number="417")
    await kit.bind(person, view.id, "417")
    proceed = await agent.hear()
    assert isinstance(proceed, Proceed), proceed
    return view, agent, proceed


async def activate(kit: Kit, person: Session, card: str, work: Begun) -> ProcessView:
    """The holder activates the card by its signature; the process at its end."""
    view, agent, _ = await activating(kit, person, card, work)
    await agent.say(Receipt(guid=agent.card.guid, signature=authentication(agent)))
    heard = await agent.hear()
    assert isinstance(heard, Finished), heard
    view = await kit.services.process(person, view.id)
    return await kit.services.next(person, view.id, view.version)


async def card_row(kit: Kit, card: str) -> Card:
    """The card as stored."""
    async with kit.database.read() as tx:
        return await tx.get_one(Card, card)


async def letters(kit: Kit) -> list[CardLetter]:
    """All letters that are stored."""
    async with kit.database.read() as tx:
        return list(await tx.scalars(select(CardLetter).order_by(CardLetter.kind)))


async def certificate_states(kit: Kit) -> list[tuple[str, str]]:
    """State in the portal and in the CA of each certificate, once the queue has run."""
    await kit.portal.revocations.run_due()
    async with kit.database.read() as tx:
        rows = await tx.scalars(select(Certificate).order_by(Certificate.created_at, Certificate.id))
        return [(row.state, row.ca_state) for row in rows]

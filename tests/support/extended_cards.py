"""Temporary cards that are extended by encoding them: from an assigned card to what an order leaves of it.

The card's cipher is computed here once more, by itself: what the portal proves is checked as a card would.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from sqlalchemy import select

from portal.model.card_options import TEMPORARY_CARDS
from portal.model.states import ProcessState, Role
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.processes.issue_temporary_card import IssueTemporaryCard
from portal.processes.request_temporary_card import RequestTemporaryCard
from portal.store.tables import Card, Certificate, ManagedCard
from portal.views import ObjectRef
from protocol.messages import (
    Certificates,
    Changing,
    EncodeCard,
    Finished,
    ManagementAlgorithm,
    ManagementProof,
    ManagementQuestion,
    Proceed,
    Receipt,
    Undo,
    Undone,
)

if TYPE_CHECKING:
    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

FACTORY: Final = bytes.fromhex("0102030405060708" * 3)
EXTEND: Final = ExtendTemporaryCard.name


@pytest.fixture
async def olga(kit: Kit) -> Session:
    """An operator, and with her the options: cards are encoded, with P-256 keys."""
    root = await kit.person("root@example.org", [Role.ADMINISTRATOR])
    await options(kit, root, TempCardsEncode=["true"], TempCardsKeyAlgorithm=["P-256"])
    return await kit.person("olga@example.org", [Role.OPERATOR])


@pytest.fixture
async def ada(kit: Kit) -> Session:
    """Who has the card."""
    return await kit.person()


async def options(kit: Kit, root: Session, **changed: list[str]) -> None:
    """Save options of temporary cards."""
    await kit.save_options(root, TEMPORARY_CARDS, **changed)


async def step(
    kit: Kit, session: Session, process: str, card: str, form: dict[str, list[str]]
) -> ProcessView:
    view = await kit.services.start_process(session, process, ObjectRef("temporary_card", card))
    return await kit.services.next(session, view.id, view.version, form)


async def assigned(
    kit: Kit, olga: Session, person: Session, serial: str = "00 42", label: str = "Visitor 7"
) -> str:
    """A card that a person has."""
    view = await kit.services.start_process(olga, RequestTemporaryCard.name)
    form = {"Label": [label], "Serial": [serial]}
    await kit.services.next(olga, view.id, view.version, form)
    async with kit.database.read() as tx:
        card = (await tx.scalars(select(Card.id).where(Card.label == label))).one()
    await step(kit, olga, IssueTemporaryCard.name, card, {})
    await step(kit, olga, AssignTemporaryCard.name, card, {"Person": [person.user.email]})
    return card


async def begun(
    kit: Kit, olga: Session, card: str, device: SoftwareAgent | None = None
) -> tuple[ProcessView, SoftwareAgent, Proceed]:
    """An order to extend the card that a device has claimed and agreed to; it is bound, and may go on."""
    view = await step(kit, olga, EXTEND, card, {})
    code = await kit.services.new_code(olga, view.id)
    agent = await kit.agent()
    if device is not None:
        agent.device, agent.card = device.device, device.card
    await agent.claim(code.code)
    assert agent.order is not None
    if agent.order.binding == "number":
        await agent.consent(number="417")
        await kit.bind(olga, view.id, "417")
    else:
        await agent.consent()
    proceed = await agent.hear()
    assert isinstance(proceed, Proceed)
    agent.card.guid, agent.card.serial = ordered(agent).guid, "42"
    return view, agent, proceed


def ordered(agent: SoftwareAgent) -> EncodeCard:
    assert agent.order is not None
    parameters = agent.order.parameters
    assert isinstance(parameters, EncodeCard)
    return parameters


def cipher(algorithm: ManagementAlgorithm, key: bytes) -> Cipher[modes.ECB]:
    if algorithm is ManagementAlgorithm.TRIPLE_DES:
        return Cipher(TripleDES(key), modes.ECB())  # noqa: S305
    return Cipher(AES(key), modes.ECB())  # noqa: S305


async def proved(agent: SoftwareAgent, key: bytes, question: ManagementQuestion) -> bool:
    """Ask; whether what comes is what a card with this key would take, and its own answer what is expected of it."""
    await agent.say(question)
    proof = await agent.hear()
    assert isinstance(proof, ManagementProof), proof
    assert proof.number == question.number
    engine = cipher(question.algorithm, key)
    if question.challenge is not None:
        assert (proof.challenge, proof.expected_sha256) == (None, None)
        return engine.encryptor().update(question.challenge) == proof.response
    assert question.witness is not None
    assert proof.challenge is not None
    right = engine.decryptor().update(question.witness) == proof.response
    answer = engine.encryptor().update(proof.challenge)
    return right and hashlib.sha256(answer).digest() == proof.expected_sha256


def question(number: int = 1, refused: int = 0, **changes: Any) -> ManagementQuestion:
    fields: dict[str, Any] = {
        "algorithm": ManagementAlgorithm.TRIPLE_DES,
        "challenge": secrets.token_bytes(8),
    }
    return ManagementQuestion(number=number, refused=refused, **{**fields, **changes})


async def certified(agent: SoftwareAgent) -> Certificates:
    """Change the card, ask for certificates, and get them."""
    assert agent.order is not None
    await agent.say(Changing())
    await agent.say(agent.card.requests(agent.order))
    answer = await agent.hear()
    assert isinstance(answer, Certificates), answer
    return answer


async def complete(agent: SoftwareAgent, *, replaced: ManagementAlgorithm | None = None) -> None:
    """To the portal's end."""
    answer = await certified(agent)
    assert agent.order is not None
    proofs = [agent.card.prove(agent.order, item, agent.ephemeral) for item in answer.certificates]
    await agent.say(Receipt(guid=agent.card.guid, proofs=proofs, management_replaced=replaced))
    assert isinstance(await agent.hear(), Finished)


async def done(kit: Kit, olga: Session, view: ProcessView) -> None:
    view = await kit.services.process(olga, view.id)
    assert view.step == "details"
    assert (await kit.services.next(olga, view.id, view.version)).state is ProcessState.FINISHED


async def encoded(kit: Kit, olga: Session, card: str, device: SoftwareAgent | None = None) -> SoftwareAgent:
    """A card that was encoded for its holder, with a management key of its own."""
    view, agent, proceed = await begun(kit, olga, card, device)
    assert await proved(agent, FACTORY, question())
    assert len(proceed.management_keys) == 2
    await complete(agent, replaced=ManagementAlgorithm.AES_192)
    await done(kit, olga, view)
    return agent


async def row(kit: Kit, card: str) -> Card:
    async with kit.database.read() as tx:
        return await tx.get_one(Card, card)


async def managed(kit: Kit, card: str) -> ManagedCard:
    async with kit.database.read() as tx:
        return await tx.get_one(ManagedCard, card)


async def certificates(kit: Kit) -> list[Certificate]:
    async with kit.database.read() as tx:
        return list(await tx.scalars(select(Certificate).order_by(Certificate.created_at, Certificate.id)))


async def revoked(kit: Kit) -> set[str]:
    """Ids of the certificates that are revoked once the queue has run."""
    await kit.portal.revocations.run_due()
    return {item.id for item in await certificates(kit) if item.state == "Revoked"}


async def carried_out(kit: Kit, agent: SoftwareAgent) -> None:
    """Wait until the portal has done what the device's messages ask for."""
    assert agent.order is not None
    await kit.portal.incoming.carry_out_now(agent.order.jti)


async def undone(agent: SoftwareAgent) -> str:
    """The portal undoes the order; its cause. The device agrees."""
    undo = await agent.hear()
    assert isinstance(undo, Undo), undo
    await agent.say(Undone(error=undo.error))
    return undo.error.error

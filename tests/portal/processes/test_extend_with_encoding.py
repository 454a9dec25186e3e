"""Extend a temporary card by encoding it: the card's questions, what is refused, half done, then as it should go.

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

from portal import option_store
from portal.errors import WrongState
from portal.model.card_options import TEMPORARY_CARDS
from portal.model.states import ProcessState, Role, TemporaryCardState, UserState
from portal.processes import management_keys, temporary_cards
from portal.processes.archive_recovery import ArchiveRecovery
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.processes.issue_temporary_card import IssueTemporaryCard
from portal.processes.request_temporary_card import RequestTemporaryCard
from portal.processes.temporary_card_encoding import encoding_of
from portal.processes.withdraw_temporary_card import WithdrawTemporaryCard
from portal.store.tables import AuditEntry, Card, Certificate, ManagedCard, Order, User
from portal.views import ObjectRef
from protocol import jose
from protocol.errors import InlayError
from protocol.messages import (
    CardStep,
    Certificates,
    Changing,
    EncodeCard,
    ErrorData,
    Finished,
    KeySource,
    ManagementAlgorithm,
    ManagementProof,
    ManagementQuestion,
    Proceed,
    Receipt,
    Undo,
    Undone,
)
from tests.support.databases import BACKENDS
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

DAY: Final = 86_400
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
    async with kit.database.read() as tx:
        saved = await option_store.current(tx, TEMPORARY_CARDS)
    form = {**option_store.script_of(TEMPORARY_CARDS).as_form(saved.values), **changed}
    await kit.services.save_options(root, TEMPORARY_CARDS, saved.version, form)


async def step(
    kit: Kit, session: Session, process: str, card: str, form: dict[str, list[str]]
) -> ProcessView:
    view = await kit.services.start_process(session, process, ObjectRef("temporary_card", card))
    return await kit.services.next(session, view.id, view.version, form)


async def assigned(kit: Kit, olga: Session, person: Session, serial: str = "00 42") -> str:
    """A card that a person has."""
    view = await kit.services.start_process(olga, RequestTemporaryCard.name)
    form = {"Label": ["Visitor 7"], "Serial": [serial]}
    await kit.services.next(olga, view.id, view.version, form)
    async with kit.database.read() as tx:
        card = (await tx.scalars(select(Card.id).where(Card.label == "Visitor 7"))).one()
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


def own(number: int, refused: int = 0) -> ManagementQuestion:
    """A question of a card with a key of its own, in mutual authentication."""
    return question(
        number,
        refused,
        algorithm=ManagementAlgorithm.AES_192,
        challenge=None,
        witness=secrets.token_bytes(16),
    )


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


# --- the card's questions


@pytest.mark.parametrize(
    "wrong",
    [
        {"challenge": None},
        {"witness": bytes(8)},
        {"challenge": bytes(16)},
        {"algorithm": ManagementAlgorithm.AES_128},
    ],
)
async def test_a_question_that_is_none_ends_the_order(
    kit: Kit, olga: Session, ada: Session, wrong: dict[str, Any]
) -> None:
    _, agent, _ = await begun(kit, olga, await assigned(kit, olga, ada))
    await agent.say(question(**wrong))
    assert await undone(agent) == "params_invalid"


async def test_only_an_order_that_works_on_a_managed_card_gets_answers(
    kit: Kit, ada: Session, olga: Session
) -> None:
    """A device with an order for a new virtual card can't ask for anything of another card's key."""
    _, agent = await kit.bound_agent(ada)
    assert isinstance(await agent.hear(), Proceed)
    await agent.say(question())
    assert await undone(agent) == "message_unexpected"


async def test_a_key_is_tried_once_and_with_none_left_the_card_is_not_ours(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    view, agent, _ = await begun(kit, olga, card)
    assert await proved(agent, FACTORY, question(1))
    async with kit.database.read() as tx:
        pending = (await tx.get_one(ManagedCard, card)).pending_generation
    assert pending == 1  # it was sent with proceed: the card may have it
    assert not await proved(agent, FACTORY, own(2, 1))
    await agent.say(own(3, 2))
    assert await undone(agent) == "card_management_wrong"
    assert (await kit.services.process(olga, view.id)).state is ProcessState.FAILED
    assert await state_of_card(kit, card) == TemporaryCardState.ASSIGNED
    assert await certificates(kit) == []


async def test_so_many_questions_are_no_cards(kit: Kit, olga: Session, ada: Session) -> None:
    _, agent, _ = await begun(kit, olga, await assigned(kit, olga, ada))
    await agent.say(question(management_keys.MOST_QUESTIONS + 1))
    assert await undone(agent) == "rate_limited"


async def test_a_number_is_answered_once_so_that_a_device_cant_ask_without_end(
    kit: Kit, olga: Session, ada: Session
) -> None:
    _, agent, _ = await begun(kit, olga, await assigned(kit, olga, ada))
    assert await proved(agent, FACTORY, question(2))
    await agent.say(question(2))
    await agent.say(question(1))
    assert await proved(agent, FACTORY, question(3))  # what is heard next is of this number
    async with kit.database.read() as tx:
        query = select(AuditEntry).where(AuditEntry.action == "card.management_proved")
        assert len(list(await tx.scalars(query))) == 2


async def test_what_was_proved_is_in_the_cards_history_without_any_secret(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    _, agent, _ = await begun(kit, olga, card)
    assert await proved(agent, FACTORY, question())
    async with kit.database.read() as tx:
        query = select(AuditEntry).where(AuditEntry.action == "card.management_proved")
        (entry,) = list(await tx.scalars(query))
    assert entry.object_id == card
    assert agent.order is not None
    assert entry.details == {"order": agent.order.jti, "generation": 0}


# --- keys


async def test_the_new_key_is_the_cards_own_and_comes_for_this_device_alone(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    view, agent, proceed = await begun(kit, olga, card)
    assert len(proceed.management_keys) == 2
    key = bytes(agent.ephemeral.decrypt(proceed.management_keys[0]))
    assert len(key) == 24
    assert key != FACTORY
    assert await proved(agent, FACTORY, question(1))
    assert await proved(agent, key, own(2, 1))  # torn out after it took it: it is the other one that is right
    await complete(agent, replaced=ManagementAlgorithm.AES_192)
    await done(kit, olga, view)
    known = await managed(kit, card)
    assert (known.key_generation, known.key_algorithm, known.pending_generation) == (1, "AES-192", None)
    _, again, proceed = await begun(kit, olga, card, agent)
    assert ordered(again).management is not None
    assert proceed.management_keys == []
    assert await proved(again, key, own(1))


async def test_a_card_that_knows_3des_alone_has_a_3des_key_of_its_own(
    kit: Kit, olga: Session, ada: Session
) -> None:
    """Until the receipt says which key it took it may have any of them, or the factory's."""
    card = await assigned(kit, olga, ada)
    view, agent, proceed = await begun(kit, olga, card)
    key = bytes(agent.ephemeral.decrypt(proceed.management_keys[1]))
    assert key != bytes(agent.ephemeral.decrypt(proceed.management_keys[0]))
    assert all(bin(byte).count("1") % 2 for byte in key)
    assert await proved(agent, FACTORY, question(1))
    assert await proved(agent, key, question(2, 1))  # torn out after it took it
    await complete(agent, replaced=ManagementAlgorithm.TRIPLE_DES)
    await done(kit, olga, view)
    known = await managed(kit, card)
    assert (known.key_generation, known.key_algorithm, known.pending_algorithm) == (1, "3DES", None)
    _, again, proceed = await begun(kit, olga, card, agent)
    assert proceed.management_keys == []
    assert await proved(again, key, question(1))


async def test_a_card_that_took_no_new_key_is_asked_by_the_old_one(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    view, agent, _ = await begun(kit, olga, card)
    assert await proved(agent, FACTORY, question())
    await complete(agent)
    await done(kit, olga, view)
    assert (await managed(kit, card)).key_generation == 0
    _, again, proceed = await begun(kit, olga, card, agent)
    assert len(proceed.management_keys) == 2
    assert await proved(again, FACTORY, question())


# --- what isn't accepted


@pytest.mark.parametrize("fault", ["guid", "serial", "puk"])
async def test_requests_of_another_card_issue_nothing(
    kit: Kit, olga: Session, ada: Session, fault: str
) -> None:
    card = await assigned(kit, olga, ada)
    _, agent, _ = await begun(kit, olga, card)
    if fault == "guid":
        agent.card.guid = "ab" * 16
    elif fault == "serial":
        agent.card.serial = "43"
    assert agent.order is not None
    requests = agent.card.requests(agent.order)
    if fault == "puk":
        requests = type(requests)(
            guid=requests.guid,
            serial=requests.serial,
            requests=requests.requests,
            puk=jose.encrypt(b"12345678", agent.ephemeral.public),
        )
    await agent.say(requests)
    assert await undone(agent) == "params_invalid"
    assert await certificates(kit) == []
    assert await state_of_card(kit, card) == TemporaryCardState.ASSIGNED


async def test_a_receipt_of_another_card_or_with_a_key_that_nobody_sent(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    agent = await encoded(kit, olga, card)
    _, agent, proceed = await begun(kit, olga, card, agent)
    assert proceed.management_keys == []
    answer = await certified(agent)
    assert agent.order is not None
    proofs = [agent.card.prove(agent.order, item, agent.ephemeral) for item in answer.certificates]
    await agent.say(
        Receipt(guid=agent.card.guid, proofs=proofs, management_replaced=ManagementAlgorithm.AES_192)
    )
    assert await undone(agent) == "params_invalid"
    assert await state_of_card(kit, card) == TemporaryCardState.FAILED


@pytest.mark.parametrize("who", ["operator", "holder"])
async def test_two_have_to_be_active_until_the_end(kit: Kit, olga: Session, ada: Session, who: str) -> None:
    card = await assigned(kit, olga, ada)
    _, agent, _ = await begun(kit, olga, card)
    answer = await certified(agent)
    email = "olga@example.org" if who == "operator" else "ada@example.org"
    await kit.portal.accounts.set_state(email, UserState.INACTIVE)
    assert agent.order is not None
    proofs = [agent.card.prove(agent.order, item, agent.ephemeral) for item in answer.certificates]
    await agent.say(Receipt(guid=agent.card.guid, proofs=proofs))
    assert await undone(agent) == ("user_not_active" if who == "operator" else "holder_not_active")
    assert await state_of_card(kit, card) == TemporaryCardState.FAILED


async def test_one_order_of_a_card_at_a_time(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    await begun(kit, olga, card)
    other = await kit.person("otto@example.org", [Role.OPERATOR])
    view = await kit.services.start_process(other, EXTEND, ObjectRef("temporary_card", card))
    with pytest.raises(WrongState):
        await kit.services.next(other, view.id, view.version)


async def test_withdrawn_meanwhile_nothing_of_it_becomes_valid(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    _, agent, _ = await begun(kit, olga, card)
    answer = await certified(agent)
    await step(kit, olga, WithdrawTemporaryCard.name, card, {"Reason": ["brought back"]})
    assert agent.order is not None
    proofs = [agent.card.prove(agent.order, item, agent.ephemeral) for item in answer.certificates]
    await agent.say(Receipt(guid=agent.card.guid, proofs=proofs))
    assert await undone(agent) == "card_ended"
    assert await state_of_card(kit, card) == TemporaryCardState.UNASSIGNED
    assert await revoked(kit) == {item.id for item in await certificates(kit)}


# --- undone


async def test_undone_before_the_card_was_changed_it_is_as_it_was(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    agent = await encoded(kit, olga, card)
    before = [item.id for item in await certificates(kit)]
    until = (await row(kit, card)).valid_until
    view, agent, _ = await begun(kit, olga, card, agent)
    assert agent.order is not None
    await agent.say(agent.card.requests(agent.order))
    assert isinstance(await agent.hear(), Certificates)
    view = await kit.services.process(olga, view.id)
    await kit.services.cancel(olga, view.id)
    assert await undone(agent) == "cancelled_at_portal"
    assert await state_of_card(kit, card) == TemporaryCardState.ASSIGNED
    assert (await row(kit, card)).valid_until == until
    issued = {item.id for item in await certificates(kit)}
    assert await revoked(kit) == issued - set(before)


@pytest.mark.parametrize("when", ["before it was undone", "after it was undone"])
async def test_undone_when_the_card_was_changed_it_is_failed_and_a_fresh_order_finishes_it(
    kit: Kit, olga: Session, ada: Session, when: str
) -> None:
    """That it is being changed may come when the order was undone already: the card was changed all the same."""
    card = await assigned(kit, olga, ada)
    agent = await encoded(kit, olga, card)
    before = {item.id for item in await certificates(kit)}
    view, agent, _ = await begun(kit, olga, card, agent)
    if when == "before it was undone":
        await agent.say(Changing())
        await carried_out(kit, agent)
    view = await kit.services.process(olga, view.id)
    await kit.services.cancel(olga, view.id)
    if when == "after it was undone":
        assert await state_of_card(kit, card) == TemporaryCardState.ASSIGNED
        await agent.say(Changing())
    assert await undone(agent) == "cancelled_at_portal"
    await carried_out(kit, agent)
    assert await state_of_card(kit, card) == TemporaryCardState.FAILED
    assert await revoked(kit) == before
    async with kit.database.read() as tx:
        query = select(AuditEntry).where(AuditEntry.action == "temporary_card.state")
        entry = list(await tx.scalars(query.order_by(AuditEntry.number)))[-1]
    assert entry.details["why"] == "encoding failed"
    await kit.portal.revocations.run_due()

    view, agent, _ = await begun(kit, olga, card, agent)
    assert [key.source for key in ordered(agent).keys] == [KeySource.GENERATE]
    await complete(agent)
    await done(kit, olga, view)
    assert await state_of_card(kit, card) == TemporaryCardState.ASSIGNED


async def test_a_device_that_never_comes_back_leaves_the_card_failed_when_its_time_is_over(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    _, agent, _ = await begun(kit, olga, card)
    await agent.say(Changing())
    await carried_out(kit, agent)
    await agent.close()
    kit.clock.now += 3601
    await kit.portal.reconciler.run_due()
    assert await state_of_card(kit, card) == TemporaryCardState.FAILED


async def test_a_device_that_undoes_it_by_itself_after_changing(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    view, agent, _ = await begun(kit, olga, card)
    await agent.say(Changing())
    await agent.say(Undone(error=ErrorData(error="pcsc_card_removed")))
    await kit.ended(olga, view.id)
    await carried_out(kit, agent)
    assert await state_of_card(kit, card) == TemporaryCardState.FAILED


async def test_a_card_that_is_being_worked_on_doesnt_expire_meanwhile(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    view, agent, _ = await begun(kit, olga, card)
    await kit.portal.pause()
    async with kit.database.write() as tx:
        (await tx.get_one(Card, card)).valid_until = kit.clock() - 1
    assert await kit.portal.expiry.next_due() is None
    await kit.portal.expiry.run_due()
    await complete(agent)
    assert await state_of_card(kit, card) == TemporaryCardState.ASSIGNED
    assert (await row(kit, card)).valid_until == ordered(agent).valid_until
    assert view.state is ProcessState.RUNNING


# --- to the end


async def test_a_first_encoding_gives_pin_guid_keys_and_certificates_of_the_holder(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    view, agent, proceed = await begun(kit, olga, card)
    wanted = ordered(agent)
    assert (wanted.driver, wanted.pin.kind, wanted.steps) == ("piv", "new", [CardStep.SET_PIN])
    assert wanted.identity is not None
    assert (wanted.identity.serial, wanted.identity.blank, wanted.identity.previous) == ("42", True, None)
    assert wanted.guid == (await row(kit, card)).guid
    assert proceed.puk is not None
    assert bytes(agent.ephemeral.decrypt(proceed.puk)) == b"12345678"
    assert "ada@example.org" in wanted.label
    assert agent.order is not None
    assert agent.order.account.user_id == "olga@example.org"
    assert await proved(agent, FACTORY, question())
    kit.clock.now += DAY
    await complete(agent, replaced=ManagementAlgorithm.AES_192)
    (certificate,) = await certificates(kit)
    async with kit.database.read() as tx:
        holder = (await tx.scalars(select(User).where(User.email == "ada@example.org"))).one()
    assert (certificate.owner_id, certificate.state, certificate.slot) == (holder.id, "Valid", "9A")
    assert "Ada Example" in certificate.subject
    assert await state_of_card(kit, card) == TemporaryCardState.ASSIGNED
    assert (await managed(kit, card)).encoded_for == holder.id
    assert (await row(kit, card)).valid_until == wanted.valid_until
    view = await kit.services.process(olga, view.id)
    assert view.step == "details"
    assert {card.id for card in await kit.services.cards(ada)} <= {
        card.id for card in await kit.services.cards(ada)
    }


async def test_an_extension_certifies_the_keys_anew_and_the_old_certificates_are_superseded(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    agent = await encoded(kit, olga, card)
    (old,) = await certificates(kit)
    kit.clock.now += 10 * DAY
    view, agent, proceed = await begun(kit, olga, card, agent)
    wanted = ordered(agent)
    assert (wanted.pin.kind, wanted.steps, wanted.identity) == ("verify", [], None)
    assert (proceed.puk, proceed.management_keys) == (None, [])
    assert [key.source for key in wanted.keys] == [KeySource.KEEP]
    await complete(agent)
    await done(kit, olga, view)
    new = next(item for item in await certificates(kit) if item.id != old.id)
    assert (new.state, new.key_hash) == ("Valid", old.key_hash)
    assert await revoked(kit) == {old.id}
    assert (await row(kit, card)).valid_until == wanted.valid_until
    assert wanted.valid_until >= kit.clock() + 13 * DAY


async def test_new_keys_where_the_option_says_so(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    agent = await encoded(kit, olga, card)
    root = await kit.login("root@example.org")
    await options(
        kit, root, TempCardsNewKeys=["true"], TempCardsCertificates=["authentication", "encryption"]
    )
    view, agent, _ = await begun(kit, olga, card, agent)
    assert [key.source for key in ordered(agent).keys] == [KeySource.GENERATE, KeySource.IMPORT_IF_POSSIBLE]
    agent.card.imports = False
    await complete(agent)
    facts = (await kit.services.process(olga, view.id)).facts
    assert "lost with the card" in facts["Encryption key"]
    await done(kit, olga, view)
    await revoked(kit)
    states = [(item.slot, item.state) for item in await certificates(kit)]
    assert sorted(states) == [("9A", "Revoked"), ("9A", "Valid"), ("9D", "Valid")]
    assert {item.key_source for item in await certificates(kit)} == {"generate"}


async def test_a_card_with_a_new_encryption_key_gets_its_old_one_as_an_earlier_one_and_a_kept_one_not(
    kit: Kit, olga: Session, ada: Session
) -> None:
    root = await kit.login("root@example.org")
    await options(kit, root, TempCardsCertificates=["encryption"])
    card = await assigned(kit, olga, ada)
    agent = await encoded(kit, olga, card)
    old = (await certificates(kit))[0]
    person = ObjectRef("user", ada.user.id)
    view = await kit.services.start_process(olga, ArchiveRecovery.name, person)
    await kit.services.next(olga, view.id, view.version, {"Reason": ["old mail"]})
    paul = await kit.person("paul@example.org", [Role.APPROVER])
    seen = await kit.services.process(paul, view.id)
    await kit.services.next(paul, view.id, seen.version, {"Decision": ["agree"]})
    stays = await kit.services.start_process(olga, EXTEND, ObjectRef("temporary_card", card))
    assert "Earlier encryption keys" not in stays.facts
    await kit.services.cancel(olga, stays.id)
    await options(kit, root, TempCardsNewKeys=["true"])
    view, agent, _ = await begun(kit, olga, card, agent)
    assert [(key.slot, key.optional) for key in ordered(agent).keys] == [("9D", False), ("82", True)]
    assert not ordered(agent).clear_retired
    answer = await certified(agent)
    assert [item.certificate for item in answer.certificates if item.slot == "82"] == [old.der]
    assert agent.order is not None
    proofs = [agent.card.prove(agent.order, item, agent.ephemeral) for item in answer.certificates]
    await agent.say(Receipt(guid=agent.card.guid, proofs=proofs))
    assert isinstance(await agent.hear(), Finished)
    assert (
        "1 of 1 are on the card"
        in (await kit.services.process(olga, view.id)).facts["Earlier encryption keys"]
    )


async def test_keys_of_a_person_whose_encoding_broke_off_go_when_somebody_else_gets_the_card(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    _, agent, _ = await begun(kit, olga, card)
    assert not ordered(agent).clear_retired
    await agent.say(Changing())
    await carried_out(kit, agent)
    assert agent.order is not None
    eve = await kit.person("eve@example.org")
    async with kit.database.write() as tx:
        begun_card = await tx.get_one(Card, card)
        options_now = await temporary_cards.options(tx)
        again = await encoding_of(tx, begun_card, options_now, kit.clock())
        begun_card.owner_id = eve.user.id
        others = await encoding_of(tx, begun_card, options_now, kit.clock())
    assert (again["clear_retired"], others["clear_retired"]) == (False, True)


async def test_keys_of_whoever_had_the_card_go_also_where_the_next_person_gets_fewer(
    kit: Kit, olga: Session, ada: Session
) -> None:
    """With the new PIN the next person could else sign and decipher by them."""
    root = await kit.login("root@example.org")
    await options(kit, root, TempCardsCertificates=["authentication", "signature", "encryption"])
    card = await assigned(kit, olga, ada)
    agent = await encoded(kit, olga, card)
    await step(kit, olga, WithdrawTemporaryCard.name, card, {"Reason": ["brought back"]})
    eve = await kit.person("eve@example.org")
    await step(kit, olga, AssignTemporaryCard.name, card, {"Person": [eve.user.email]})
    await options(kit, root, TempCardsCertificates=["authentication"])
    view, agent, _ = await begun(kit, olga, card, agent)
    assert (ordered(agent).clear, ordered(agent).clear_retired) == (["9C", "9D"], True)
    await complete(agent)
    await done(kit, olga, view)
    kit.clock.now += 1
    _, agent, _ = await begun(kit, olga, card, agent)
    assert (ordered(agent).clear, ordered(agent).clear_retired) == ([], False)


async def test_another_persons_card_gets_another_identity(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    agent = await encoded(kit, olga, card)
    first = (await row(kit, card)).guid
    await step(kit, olga, WithdrawTemporaryCard.name, card, {"Reason": ["brought back"]})
    await kit.portal.revocations.run_due()
    eve = await kit.person("eve@example.org")
    await step(kit, olga, AssignTemporaryCard.name, card, {"Person": [eve.user.email]})
    view, agent, proceed = await begun(kit, olga, card, agent)
    wanted = ordered(agent)
    assert wanted.guid != first
    assert wanted.identity is not None
    assert (wanted.identity.previous, wanted.identity.blank) == (first, False)
    assert wanted.clear_retired
    assert wanted.pin.kind == "new"
    assert proceed.puk is not None
    assert [key.source for key in wanted.keys] == [KeySource.GENERATE]
    await complete(agent)
    await done(kit, olga, view)
    assert (await row(kit, card)).guid == wanted.guid
    async with kit.database.read() as tx:
        assert len(list(await tx.scalars(select(Order).where(Order.state == "finished")))) == 2


async def test_a_code_that_was_never_claimed_leaves_nothing(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    view = await step(kit, olga, EXTEND, card, {})
    with pytest.raises(InlayError):
        await (await kit.agent()).claim("AAAAAAAAAAAAAAAAAAAAAA")
    view = await kit.services.process(olga, view.id)
    await kit.services.cancel(olga, view.id)
    assert await state_of_card(kit, card) == TemporaryCardState.ASSIGNED

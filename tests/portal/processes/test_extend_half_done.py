"""Extend a temporary card by encoding it: what isn't accepted, and what an order that is undone leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.errors import WrongState
from portal.model.states import ProcessState, Role, TemporaryCardState, UserState
from portal.processes.withdraw_temporary_card import WithdrawTemporaryCard
from portal.store.tables import AuditEntry, Card
from portal.views import ObjectRef
from protocol import jose
from protocol.errors import InlayError
from protocol.messages import (
    Certificates,
    Changing,
    ErrorData,
    KeySource,
    ManagementAlgorithm,
    Receipt,
    Undone,
)
from tests.support.databases import BACKENDS
from tests.support.extended_cards import (
    EXTEND,
    ada,
    assigned,
    begun,
    carried_out,
    certificates,
    certified,
    complete,
    done,
    encoded,
    olga,
    options,
    ordered,
    revoked,
    row,
    step,
    undone,
)
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

__all__ = ["ada", "olga"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


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


async def left_half_done(kit: Kit, olga: Session, card: str) -> SoftwareAgent:
    """A card whose encoding broke off."""
    _, agent, _ = await begun(kit, olga, card)
    await agent.say(Changing())
    await agent.say(Undone(error=ErrorData(error="pcsc_card_removed")))
    await carried_out(kit, agent)
    assert await state_of_card(kit, card) == TemporaryCardState.FAILED
    return agent


async def set_state(kit: Kit, card: str, state: TemporaryCardState) -> None:
    async with kit.database.write() as tx:
        (await tx.get_one(Card, card)).state = state.value


async def test_who_has_another_card_by_now_gets_a_half_done_one_finished_no_more(
    kit: Kit, olga: Session, ada: Session
) -> None:
    """Neither begun nor, where the other one has come while it was encoded, ended well."""
    card = await assigned(kit, olga, ada)
    agent = await left_half_done(kit, olga, card)
    other = await assigned_too(kit, olga, ada)
    with pytest.raises(InlayError) as caught:
        await step(kit, olga, EXTEND, card, {})
    assert (caught.value.code, caught.value.fields) == ("temporary_card_other", {"label": "Visitor 9"})
    await set_state(kit, other, TemporaryCardState.UNASSIGNED)
    _, agent, _ = await begun(kit, olga, card, agent)
    answer = await certified(agent)
    await set_state(kit, other, TemporaryCardState.ASSIGNED)
    assert agent.order is not None
    proofs = [agent.card.prove(agent.order, item, agent.ephemeral) for item in answer.certificates]
    await agent.say(Receipt(guid=agent.card.guid, proofs=proofs))
    assert await undone(agent) == "temporary_card_other"
    await carried_out(kit, agent)
    assert await state_of_card(kit, card) == TemporaryCardState.FAILED
    assert await revoked(kit) == {item.id for item in await certificates(kit)}


async def assigned_too(kit: Kit, olga: Session, person: Session) -> str:
    """Another card of the same person, as an option that was off has let it be."""
    root = await kit.login("root@example.org")
    await options(kit, root, TempCardsOnePerUser=[])
    other = await assigned(kit, olga, person, serial="00 77", label="Visitor 9")
    await options(kit, root, TempCardsOnePerUser=["true"])
    return other


@pytest.mark.parametrize(("purpose", "stays"), [("kept", True), ("new", False)])
async def test_a_card_that_refused_the_certificate_is_as_it_was_only_where_it_keeps_its_keys(
    kit: Kit, olga: Session, ada: Session, purpose: str, stays: bool
) -> None:
    """Only of such an order the device is believed; the page says what helps, and whether the card is half done."""
    card = await assigned(kit, olga, ada)
    agent = await encoded(kit, olga, card)
    before = {item.id for item in await certificates(kit)}
    if purpose == "new":
        root = await kit.login("root@example.org")
        await options(kit, root, TempCardsNewKeys=["true"])
    view, agent, _ = await begun(kit, olga, card, agent)
    await certified(agent)
    error = ErrorData(error="card_object_too_large", fields={"size": 2_000})
    await agent.say(Undone(error=error, unchanged=True))
    await carried_out(kit, agent)
    issued = {item.id for item in await certificates(kit)} - before
    state = TemporaryCardState.ASSIGNED if stays else TemporaryCardState.FAILED
    assert await state_of_card(kit, card) == state
    assert await revoked(kit) == (issued if stays else issued | before)
    told = (await kit.services.process(olga, view.id)).error
    assert told is not None
    assert "smaller certificate" in told.next_step
    assert ("half done" in told.next_step) is not stays
    assert ("Nothing was changed" in told.next_step) is stays


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

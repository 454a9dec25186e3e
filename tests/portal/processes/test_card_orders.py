"""Change PIN and delete of one's own card: who may, in which state, undone at each stage, then the way it should go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.errors import NotFound, StalePage, SwitchedOff, WrongState
from portal.model.states import ProcessState, Role, UserState, VirtualSmartCardState
from portal.processes.change_pin import ChangeCardPin
from portal.processes.delete_virtual_card import DeleteCard
from portal.store.tables import AuditEntry, Card, Certificate, Order
from portal.views import ObjectRef
from protocol.errors import InlayError
from protocol.messages import (
    ChangePin,
    DeleteVirtualCard,
    ErrorData,
    Finished,
    Proceed,
    Progress,
    Receipt,
    Requests,
    SlotProof,
    Step,
    StorageLevel,
    Undo,
    Undone,
)
from tests.support.portal_kit import P256, Kit
from tests.support.stored_objects import put_card, state_of_card

if TYPE_CHECKING:
    from portal.views import CardView, ProcessView, Session
    from tests.support.software_agent import SoftwareAgent

CHANGE, DELETE = ChangeCardPin.name, DeleteCard.name


async def begin(kit: Kit, session: Session, name: str, card: str) -> ProcessView:
    return await kit.services.start_process(session, name, ObjectRef("virtual_smart_card", card))


async def made_card(kit: Kit, session: Session) -> tuple[CardView, SoftwareAgent]:
    """A card with three certificates, and the device that made it on a connection of its own."""
    await kit.set_options(**P256, DeleteBySelfService=True)
    _, agent = await kit.bound_agent(session)
    await agent.complete()
    again = await kit.agent()
    again.device, again.card = agent.device, agent.card
    (card,) = await kit.services.cards(session)
    return card, again


async def claimed(kit: Kit, session: Session, agent: SoftwareAgent, name: str, card: str) -> ProcessView:
    """A process whose order the device has claimed and agreed to; it is known, so nothing binds it."""
    view = await begin(kit, session, name, card)
    view = await kit.services.next(session, view.id, view.version)
    code = await kit.services.new_code(session, view.id)
    await agent.claim(code.code)
    await agent.say(Progress(step=Step.CONSENT))
    await agent.consent()
    assert isinstance(await agent.hear(), Proceed)
    return view


def receipt(agent: SoftwareAgent, generation: int = 42) -> Receipt:
    return Receipt(guid=agent.card.guid, generation=generation, storage=StorageLevel.KEYSTORE)


async def certificates(kit: Kit) -> list[Certificate]:
    async with kit.database.read() as tx:
        return list(await tx.scalars(select(Certificate)))


async def audited(kit: Kit, action: str) -> list[AuditEntry]:
    async with kit.database.read() as tx:
        return list(await tx.scalars(select(AuditEntry).where(AuditEntry.action == action)))


# --- who may, and when


@pytest.mark.parametrize("state", ["Registered", "Inactive", "Locked", "Replaced", "Expired"])
async def test_a_pin_is_changed_on_an_active_card_only(kit: Kit, state: str) -> None:
    ada = await kit.person()
    card = await put_card(kit, ada, VirtualSmartCardState(state))
    with pytest.raises(WrongState) as caught:
        await begin(kit, ada, CHANGE, card)
    assert caught.value.would_do == ["Active"]


async def test_a_card_that_stops_being_active_stops_the_process_at_its_next_step(kit: Kit) -> None:
    ada = await kit.person()
    card = await put_card(kit, ada)
    view = await begin(kit, ada, CHANGE, card)
    async with kit.database.write() as tx:
        (await tx.get_one(Card, card)).state = "Locked"
    with pytest.raises(WrongState):
        await kit.services.next(ada, view.id, view.version)
    async with kit.database.write() as tx:
        (await tx.get_one(Card, card)).state = "Active"
    view = await kit.services.next(ada, view.id, view.version)
    async with kit.database.write() as tx:
        (await tx.get_one(Card, card)).state = "Locked"
    with pytest.raises(WrongState):
        await kit.services.new_code(ada, view.id)


@pytest.mark.parametrize("name", [CHANGE, DELETE])
async def test_nobody_touches_anothers_card_and_nobody_inactive_touches_one(kit: Kit, name: str) -> None:
    await kit.set_options(DeleteBySelfService=True)
    ada, eve = await kit.person(), await kit.person("eve@example.org")
    olga = await kit.person("olga@example.org", [Role.SELF_SERVICE, Role.OPERATOR])
    card = await put_card(kit, ada)
    for session in (eve, olga):
        with pytest.raises(NotFound):
            await begin(kit, session, name, card)
    with pytest.raises(NotFound):
        await begin(kit, ada, name, "no-such-card")
    view = await begin(kit, ada, name, card)
    await kit.portal.accounts.set_state("ada@example.org", UserState.INACTIVE)
    with pytest.raises(InlayError) as caught:
        await kit.services.next(ada, view.id, view.version)
    assert caught.value.code == "user_not_active"


async def test_deleting_is_switched_off_until_an_administrator_allows_it(kit: Kit) -> None:
    ada = await kit.person()
    card = await put_card(kit, ada)
    with pytest.raises(SwitchedOff) as caught:
        await begin(kit, ada, DELETE, card)
    assert "DeleteBySelfService" in str(caught.value)
    await kit.set_options(DeleteBySelfService=True)
    view = await begin(kit, ada, DELETE, card)
    await kit.set_options(DeleteBySelfService=False)
    with pytest.raises(SwitchedOff):
        await kit.services.next(ada, view.id, view.version)
    offered = {
        item.name: item.refused
        for item in await kit.services.possible(ada, ObjectRef("virtual_smart_card", card))
    }
    assert offered[DELETE] is not None
    assert offered[CHANGE] is None


async def test_sent_twice_one_order_and_a_stale_page_none(kit: Kit) -> None:
    ada = await kit.person()
    view = await begin(kit, ada, CHANGE, await put_card(kit, ada))
    first = await kit.services.next(ada, view.id, view.version)
    again = await kit.services.next(ada, view.id, view.version)
    assert (first.step, again.step) == ("open", "open")
    with pytest.raises(StalePage):
        await kit.services.next(ada, view.id, view.version - 1)
    async with kit.database.read() as tx:
        assert len(list(await tx.scalars(select(Order)))) == 1


async def test_one_order_of_a_card_at_a_time(kit: Kit) -> None:
    ada = await kit.person()
    card, agent = await made_card(kit, ada)
    await claimed(kit, ada, agent, CHANGE, card.id)
    view = await begin(kit, ada, DELETE, card.id)
    with pytest.raises(WrongState) as caught:
        await kit.services.next(ada, view.id, view.version)
    assert (caught.value.kind, caught.value.state) == ("order", "running")


# --- change PIN


async def test_the_order_names_card_and_rules_and_no_pin_ever_comes_here(kit: Kit) -> None:
    ada = await kit.person()
    card, agent = await made_card(kit, ada)
    await kit.set_options(PINMinLength=7)
    view = await claimed(kit, ada, agent, CHANGE, card.id)
    assert agent.order is not None
    wanted = agent.order.parameters
    assert isinstance(wanted, ChangePin)
    assert (wanted.card, wanted.guid, wanted.label) == (card.id, agent.card.guid, card.label)
    assert wanted.pin_policy.min_length == 7
    assert agent.order.account.user_id == "ada@example.org"
    await agent.say(receipt(agent))
    assert isinstance(await agent.hear(), Finished)
    view = await kit.services.process(ada, view.id)
    assert (view.step, view.card and view.card.id) == ("details", card.id)
    view = await kit.services.next(ada, view.id, view.version)
    assert view.state is ProcessState.FINISHED
    (entry,) = await audited(kit, "card.pin_changed")
    assert entry.object_id == card.id
    assert await state_of_card(kit, card.id) == "Active"
    assert {row.state for row in await certificates(kit)} == {"Valid"}
    async with kit.database.read() as tx:
        assert (await tx.get_one(Card, card.id)).generation == 42


@pytest.mark.parametrize("name", [CHANGE, DELETE])
@pytest.mark.parametrize("fault", ["guid", "proofs", "requests", "early"])
async def test_what_is_not_that_cards_receipt_undoes_the_order(kit: Kit, name: str, fault: str) -> None:
    ada = await kit.person()
    card, agent = await made_card(kit, ada)
    if fault == "early":
        view = await begin(kit, ada, name, card.id)
        view = await kit.services.next(ada, view.id, view.version)
        code = await kit.services.new_code(ada, view.id)
        await agent.claim(code.code)
        with pytest.raises(InlayError) as caught:
            await agent.say(receipt(agent))
        assert caught.value.code == "message_unexpected"
        return
    view = await claimed(kit, ada, agent, name, card.id)
    if fault == "requests":
        with pytest.raises(InlayError) as caught:
            await agent.say(Requests(guid=agent.card.guid, serial="1", requests=[]))
        assert caught.value.code == "message_unexpected"
        return
    proof = SlotProof(slot="9A", certificate_sha256=bytes(32), signature=b"1234")
    wrong = {
        "guid": Receipt(guid="ab" * 16, generation=1),
        "proofs": Receipt(guid=agent.card.guid, generation=1, proofs=[proof]),
    }
    await agent.say(wrong[fault])
    assert isinstance(await agent.hear(), Undo)
    assert (await kit.services.process(ada, view.id)).state is ProcessState.FAILED
    assert await state_of_card(kit, card.id) == "Active"
    assert {row.state for row in await certificates(kit)} == {"Valid"}


@pytest.mark.parametrize("name", [CHANGE, DELETE])
async def test_undone_by_the_device_or_cancelled_on_the_page_nothing_changes(kit: Kit, name: str) -> None:
    ada = await kit.person()
    card, agent = await made_card(kit, ada)
    view = await claimed(kit, ada, agent, name, card.id)
    await agent.say(Undone(error=ErrorData(error="pin_blocked")))
    end = await kit.ended(ada, view.id)
    assert (end.state, end.error and end.error.error) == ("undone", "pin_blocked")
    other = await kit.agent()
    other.device, other.card = agent.device, agent.card
    view = await claimed(kit, ada, other, name, card.id)
    await kit.services.cancel(ada, view.id)
    assert isinstance(await other.hear(), Undo)
    assert await state_of_card(kit, card.id) == "Active"
    assert {row.state for row in await certificates(kit)} == {"Valid"}


async def test_a_receipt_and_a_cancel_at_once_have_one_winner(kit: Kit) -> None:
    ada = await kit.person()
    card, agent = await made_card(kit, ada)
    view = await claimed(kit, ada, agent, DELETE, card.id)
    results = await asyncio.gather(
        agent.say(receipt(agent)), kit.services.cancel(ada, view.id), return_exceptions=True
    )
    end = await kit.ended(ada, view.id)
    deleted = await state_of_card(kit, card.id) == "Locked"
    assert deleted == (end.state == "finished")
    assert deleted == any(isinstance(item, WrongState) for item in results)
    assert (await kit.valid_at_ca() == []) == deleted


# --- delete


@pytest.mark.parametrize("state", [None, "Inactive", "Expired", "Replaced", "Locked"])
async def test_a_deleted_card_is_locked_or_stays_at_its_end_and_no_certificate_is_left(
    kit: Kit, state: str | None
) -> None:
    ada = await kit.person()
    card, agent = await made_card(kit, ada)
    if state is not None:
        async with kit.database.write() as tx:
            (await tx.get_one(Card, card.id)).state = state
    view = await claimed(kit, ada, agent, DELETE, card.id)
    assert agent.order is not None
    assert isinstance(agent.order.parameters, DeleteVirtualCard)
    await agent.say(receipt(agent))
    assert isinstance(await agent.hear(), Finished)
    assert await state_of_card(kit, card.id) == (state if state in ("Expired", "Replaced") else "Locked")
    assert await kit.valid_at_ca() == []
    rows = await certificates(kit)
    assert {row.state for row in rows} == {"Revoked"}
    assert {row.revocation_reason for row in rows} == {"cessationOfOperation"}
    assert [entry.object_id for entry in await audited(kit, "card.deleted")] == [card.id]
    view = await kit.services.process(ada, view.id)
    assert (await kit.services.next(ada, view.id, view.version)).state is ProcessState.FINISHED


async def test_a_card_that_was_never_finished_ends_without_an_agent(kit: Kit) -> None:
    await kit.set_options(DeleteBySelfService=True)
    ada = await kit.person()
    card = await put_card(kit, ada, VirtualSmartCardState.REGISTERED)
    view = await begin(kit, ada, DELETE, card)
    view = await kit.services.next(ada, view.id, view.version)
    assert view.state is ProcessState.FINISHED
    assert await state_of_card(kit, card) == "Locked"

"""An order waits for its number while its card is taken back, given to somebody else, locked, or worked on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from portal.model.states import ProcessState, Role
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.change_puk import ChangeCardPuk
from portal.processes.lock_temporary_card import LockTemporaryCard
from portal.processes.unblock_change_pin import UnblockChangePin
from portal.processes.verify_pin import VerifyCardPin
from portal.processes.withdraw_temporary_card import WithdrawTemporaryCard
from portal.store.tables import Certificate, ManagedCard, Order
from portal.views import ObjectRef
from protocol.errors import InlayError
from protocol.messages import Changing, Finished, Proceed, Receipt, Undo
from tests.portal.processes.test_unblock_change_pin import actions
from tests.support import extended_cards as extending
from tests.support.databases import BACKENDS
from tests.support.extended_cards import EXTEND, ada, assigned, encoded, olga, row, step
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

__all__ = ["ada", "olga"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

NUMBER = "417"
UNBLOCK = {"Action": ["unblock"], "PUK": ["portal"]}


async def waiting(
    kit: Kit, who: Session, name: str, card: str, form: dict[str, list[str]]
) -> tuple[ProcessView, SoftwareAgent]:
    """An order that a device has claimed and agreed to; the page's number isn't typed yet."""
    view = await step(kit, who, name, card, form)
    return view, await claimed(kit, who, view)


async def claimed(kit: Kit, who: Session, view: ProcessView) -> SoftwareAgent:
    code = await kit.services.new_code(who, view.id)
    agent = await kit.agent()
    await agent.claim(code.code)
    await agent.consent(number=NUMBER)
    return agent


async def parameter(kit: Kit, view: ProcessView, name: str) -> Any:
    """What the order of a process says."""
    async with kit.database.read() as tx:
        found = (await tx.scalars(select(Order).where(Order.process_id == view.id))).one()
        return found.parameters.get(name)


async def refused(kit: Kit, who: Session, view: ProcessView, agent: SoftwareAgent) -> str:
    """The number is typed now: why the order isn't let on."""
    await kit.bind(who, view.id, NUMBER)
    heard = await agent.hear()
    assert isinstance(heard, Undo), heard
    return heard.error.error


@pytest.mark.parametrize("what", ["taken back", "given to somebody else", "locked"])
async def test_who_had_the_card_gets_its_puk_no_more(
    kit: Kit, olga: Session, ada: Session, what: str
) -> None:
    """Whoever has to give a card back would else know how to set its PIN when somebody else has it."""
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    view, agent = await waiting(kit, ada, UnblockChangePin.name, card, UNBLOCK)
    process = LockTemporaryCard.name if what == "locked" else WithdrawTemporaryCard.name
    await step(kit, olga, process, card, {"Reason": ["left"]})
    if what == "given to somebody else":
        bob = await kit.person("bob@example.org")
        await step(kit, olga, AssignTemporaryCard.name, card, {"Person": [bob.user.email]})
    assert await refused(kit, ada, view, agent) == "card_changed"
    assert "card.puk_delivered" not in await actions(kit, card)
    shown = await kit.services.process(ada, view.id)
    assert shown.state is ProcessState.FAILED


@pytest.mark.parametrize("name", [UnblockChangePin.name, VerifyCardPin.name, EXTEND])
async def test_a_page_from_before_it_was_given_to_somebody_else_orders_nothing(
    kit: Kit, olga: Session, ada: Session, name: str
) -> None:
    """A page that waits for its first *Next* has made no order that could be found to be about another's card."""
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    otto = await kit.person("otto@example.org", [Role.OPERATOR])
    who = otto if name == EXTEND else ada
    view = await kit.services.start_process(who, name, ObjectRef("temporary_card", card))
    await step(kit, olga, WithdrawTemporaryCard.name, card, {"Reason": ["left"]})
    bob = await kit.person("bob@example.org")
    await step(kit, olga, AssignTemporaryCard.name, card, {"Person": [bob.user.email]})
    await extending.complete((await extending.begun(kit, olga, card))[1])
    with pytest.raises(InlayError) as refused:
        await kit.services.next(who, view.id, view.version, UNBLOCK if name == UnblockChangePin.name else {})
    assert refused.value.code == "card_changed"
    async with kit.database.read() as tx:
        assert await tx.scalar(select(Order.jti).where(Order.process_id == view.id)) is None
    if who is otto:
        kit.clock.now += 1
        fresh = await kit.services.start_process(who, name, ObjectRef("temporary_card", card))
        assert fresh.id != view.id
        assert (await kit.services.next(who, fresh.id, fresh.version, {})).step == "open"


async def test_what_is_written_is_told_by_what_is_on_the_card_when_it_is_ordered(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card, otto = await assigned(kit, olga, ada), await kit.person("otto@example.org", [Role.OPERATOR])
    bob = await kit.person("bob@example.org")
    before = await kit.services.start_process(otto, EXTEND, ObjectRef("temporary_card", card))
    await encoded(kit, olga, card)
    view = await kit.services.next(otto, before.id, before.version, {})
    assert [await parameter(kit, view, name) for name in ("reset", "identity", "new_puk")] == [None] * 3
    await kit.services.cancel(otto, view.id)

    between = await kit.services.start_process(otto, EXTEND, ObjectRef("temporary_card", card))
    for who in (bob, ada):
        await step(kit, olga, WithdrawTemporaryCard.name, card, {"Reason": ["left"]})
        await step(kit, olga, AssignTemporaryCard.name, card, {"Person": [who.user.email]})
        if who is bob:
            async with kit.database.write() as tx:
                (await tx.get_one(ManagedCard, card)).encoded_for = bob.user.id
    view = await kit.services.next(otto, between.id, between.version, {})
    assert "set_pin" in await parameter(kit, view, "steps")
    assert await parameter(kit, view, "identity") is not None


async def test_a_card_that_was_given_to_somebody_else_isnt_encoded_for_who_had_it(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    _, agent, _ = await extending.begun(kit, olga, card)
    answer = await extending.certified(agent)
    await step(kit, olga, WithdrawTemporaryCard.name, card, {"Reason": ["left"]})
    bob = await kit.person("bob@example.org")
    await step(kit, olga, AssignTemporaryCard.name, card, {"Person": [bob.user.email]})
    assert agent.order is not None
    proofs = [agent.card.prove(agent.order, item, agent.ephemeral) for item in answer.certificates]
    await agent.say(Receipt(guid=agent.card.guid, proofs=proofs))
    heard = await agent.hear()
    assert isinstance(heard, Undo)
    assert heard.error.error == "card_changed"
    async with kit.database.read() as tx:
        assert "Valid" not in list(await tx.scalars(select(Certificate.state)))


async def test_of_two_orders_that_wait_one_is_let_on(kit: Kit, olga: Session, ada: Session) -> None:
    """The holder's would send the PUK that the operator's has just changed, and so spend a try of it."""
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    first = await step(kit, ada, VerifyCardPin.name, card, {})
    second = await step(kit, ada, UnblockChangePin.name, card, UNBLOCK)
    third = await step(kit, olga, ChangeCardPuk.name, card, {"PUK": ["portal"]})
    one, other = await claimed(kit, ada, first), await claimed(kit, ada, second)
    last = await claimed(kit, olga, third)
    await kit.bind(ada, first.id, NUMBER)
    assert await one.hear() == Proceed()
    assert await refused(kit, ada, second, other) == "card_worked_on"
    await one.say(Receipt(guid=(await row(kit, card)).guid))
    assert isinstance(await one.hear(), Finished)
    await kit.bind(olga, third.id, NUMBER)
    assert isinstance(await last.hear(), Proceed)


@pytest.mark.parametrize("settled", [False, True])
async def test_late_word_of_a_change_doesnt_end_a_card_that_was_encoded_since(
    kit: Kit, olga: Session, ada: Session, settled: bool
) -> None:
    """A device was cut off, its order cancelled, and the card encoded with another one; then the first comes back."""
    card = await assigned(kit, olga, ada)
    view, late, _ = await extending.begun(kit, olga, card)
    await kit.services.cancel(olga, view.id)
    kit.clock.now += 10
    await encoded(kit, olga, card)
    if settled:
        kit.clock.now += 3700
        await kit.portal.reconciler.run_due()
    before = await extending.revoked(kit)
    await late.say(Changing())
    await extending.carried_out(kit, late)
    assert await state_of_card(kit, card) == "Assigned"
    assert await extending.revoked(kit) == before
    async with kit.database.read() as tx:
        assert "Valid" in list(await tx.scalars(select(Certificate.state)))

"""Batches of temporary cards: what is refused, one card at two stations, the end of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from portal.errors import FieldErrors, Forbidden, NotFound, WrongState
from portal.model.states import Role, UserState
from portal.processes import card_batches
from portal.processes.issue_multiple_temporary_cards import IssueMultipleTemporaryCards
from portal.store.tables import AuditEntry, Card, CardBatch, User
from protocol.errors import InlayError
from protocol.messages import (
    Changing,
    Finished,
    IdentityQuestion,
    Receipt,
    Undo,
    Undone,
)
from tests.support.batch_orders import AES, batch_of, begun, count, said, seen, states, torn, written
from tests.support.databases import BACKENDS
from tests.support.extended_cards import ordered

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.views import Session
    from tests.support.portal_kit import Kit

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


@pytest.fixture
async def olga(kit: Kit) -> Session:
    """An operator."""
    return await kit.person("olga@example.org", [Role.OPERATOR])


@pytest.fixture
async def otto(kit: Kit) -> Session:
    """Another one."""
    return await kit.person("otto@example.org", [Role.OPERATOR])


async def cards(kit: Kit, session: Session, batch: str) -> list[str]:
    return [place.card for place in (await seen(kit, session, batch)).places]


@contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(InlayError) as caught:
        yield
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("field", "text"), [("Count", "0"), ("Count", "201"), ("Count", "ten"), ("Label", ""), ("First", "0")]
)
async def test_an_order_that_makes_no_sense_is_said_at_its_field(
    kit: Kit, olga: Session, field: str, text: str
) -> None:
    view = await kit.services.start_process(olga, IssueMultipleTemporaryCards.name)
    form = {"Label": ["Visitor"], "Count": ["3"], "First": ["1"], field: [text]}
    with pytest.raises(FieldErrors) as caught:
        await kit.services.next(olga, view.id, view.version, form)
    assert set(caught.value.errors) == {field}
    assert (await count(kit, Card), await count(kit, CardBatch)) == (0, 0)


async def test_only_active_operators_see_order_produce_and_close_batches(
    kit: Kit, olga: Session, otto: Session
) -> None:
    ada, batch = await kit.person(), await batch_of(kit, olga)
    batches = kit.portal.batches
    with pytest.raises(Forbidden):
        await kit.services.start_process(ada, IssueMultipleTemporaryCards.name)
    card = (await cards(kit, olga, batch))[0]
    process = await batches.complete(otto, batch)
    assert process is not None
    calls = (
        lambda who: batches.all(who),
        lambda who: batches.one(who, batch),
        lambda who: batches.complete(who, batch),
        lambda who: batches.repeat(who, batch, [card], "same"),
        lambda who: batches.close(who, batch, "never mind"),
    )
    for call in calls:
        with pytest.raises(Forbidden):
            await call(ada)
    async with kit.database.write() as tx:
        (await tx.get_one(User, otto.user.id)).state = UserState.INACTIVE
    with refused("user_not_active"):
        await kit.services.new_code(otto, process)
    with pytest.raises(Forbidden):
        await batches.go_on(ada, process)
    with pytest.raises(NotFound):
        await batches.go_on(olga, process)
    assert await states(kit, olga, batch) == ["Requested"] * 3


async def test_a_card_of_the_portals_stays_as_it_is_and_is_named(kit: Kit, olga: Session) -> None:
    """The one that was made before it is still in the reader; another one has the serial number of a card in use."""
    batch = await batch_of(kit, olga)
    first = await kit.portal.batches.complete(olga, batch)
    agent, _ = await begun(kit, olga, first)
    await written(agent, "7001")
    made = ordered(agent).guid
    assert first is not None
    _, second = await kit.portal.batches.go_on(olga, first)
    agent, _ = await begun(kit, olga, second, agent)
    assert await said(agent, made, "7001", 1) == "Visitor 1"
    assert await said(agent, None, "7001", 2) == "Visitor 1"
    assert await said(agent, made, None, 3) == "Visitor 1"
    assert await said(agent, "ab" * 16, "7002", 4) is None
    await agent.say(Changing())
    await agent.say(Receipt(guid=ordered(agent).guid, management_replaced=AES, puk_replaced=True))
    assert isinstance(await agent.hear(), Finished)
    assert [place.serial for place in (await seen(kit, olga, batch)).places] == ["7001", "7002", ""]


async def test_one_card_at_two_stations_becomes_one_card_object(
    kit: Kit, olga: Session, otto: Session
) -> None:
    batch = await batch_of(kit, olga)
    hers, _ = await begun(kit, olga, await kit.portal.batches.complete(olga, batch))
    his, _ = await begun(kit, otto, await kit.portal.batches.complete(otto, batch))
    assert ordered(hers).card != ordered(his).card
    assert await said(his, None, "7001") is None
    await written(hers, "7001")
    await his.say(Changing())
    await his.say(Receipt(guid=ordered(his).guid, management_replaced=AES, puk_replaced=True))
    undo = await his.hear()
    assert isinstance(undo, Undo)
    assert (undo.error.error, undo.error.fields) == ("card_in_use", {"label": "Visitor 1"})
    await his.say(Undone(error=undo.error))
    assert await states(kit, olga, batch) == ["Unassigned", "Failed", "Requested"]


@pytest.mark.parametrize(
    "question_", [IdentityQuestion(number=1), IdentityQuestion(number=1, guid="ab" * 16)]
)
async def test_the_portal_is_asked_before_the_receipt_alone(
    kit: Kit, olga: Session, question_: IdentityQuestion
) -> None:
    """Behind its receipt nothing of a card is asked any more: the order has won."""
    agent, _ = await begun(kit, olga, await kit.portal.batches.complete(olga, await batch_of(kit, olga, 1)))
    await written(agent)
    with refused("message_unexpected"):
        await agent.say(question_)


async def test_a_card_that_failed_with_its_holder_is_not_made_ready_for_others(
    kit: Kit, olga: Session
) -> None:
    ada, batch = await kit.person(), await batch_of(kit, olga, 1)
    card = (await cards(kit, olga, batch))[0]
    async with kit.database.write() as tx:
        row = await tx.get_one(Card, card)
        row.owner_id, row.state = ada.user.id, "Failed"
    with refused("card_with_holder"):
        await kit.portal.batches.complete(olga, batch)
    async with kit.database.write() as tx:
        row = await tx.get_one(Card, card)
        row.owner_id, row.driver = olga.user.id, "pkcs11"
    with refused("card_not_made_ready"):
        await kit.portal.batches.complete(olga, batch)


async def test_a_batch_with_cards_left_is_closed_with_a_reason_and_they_come_to_their_end(
    kit: Kit, olga: Session, otto: Session
) -> None:
    batch, batches = await batch_of(kit, olga), kit.portal.batches
    first = await batches.complete(olga, batch)
    agent, _ = await begun(kit, olga, first)
    with pytest.raises(FieldErrors) as caught:
        await batches.close(otto, batch, " ")
    assert set(caught.value.errors) == {"Reason"}
    with refused("batch_busy"):
        await batches.close(otto, batch, "no blank cards left")
    await torn(kit, agent)
    second = await batches.complete(otto, batch)
    assert second is not None
    await batches.close(otto, batch, "no blank cards left")
    assert await states(kit, olga, batch) == ["Locked", "Aborted", "Aborted"]
    view = await seen(kit, olga, batch)
    assert (view.left, view.closed_by, view.closed_at) == (0, "otto@example.org", kit.clock.now)
    for call in (batches.complete(olga, batch), batches.close(olga, batch, "once more")):
        with refused("batch_closed"):
            await call
    with pytest.raises(
        WrongState
    ):  # its card is aborted: the process that waits for Inlay makes nothing of it
        await kit.services.new_code(otto, second)
    async with kit.database.read() as tx:
        query = select(AuditEntry).where(AuditEntry.object_id == batch).order_by(AuditEntry.number)
        found = [(entry.action, entry.actor) for entry in await tx.scalars(query)]
    assert found == [("batch.ordered", "olga@example.org"), ("batch.closed", "otto@example.org")]


async def test_a_card_that_is_made_while_its_batch_is_closed_stays_made(
    kit: Kit, olga: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await batch_of(kit, olga)
    made = (await cards(kit, olga, batch))[1]
    look = card_batches.places

    async def made_meanwhile(tx: AsyncSession, batch_id: str) -> Sequence[card_batches.Place]:
        there = await look(tx, batch_id)
        change = update(Card).where(Card.id == made).values(state="Unassigned")
        await tx.execute(change, execution_options={"synchronize_session": False})
        return there

    monkeypatch.setattr(card_batches, "places", made_meanwhile)
    await kit.portal.batches.close(olga, batch, "no more are needed")
    monkeypatch.undo()
    assert await states(kit, olga, batch) == ["Aborted", "Unassigned", "Aborted"]


async def test_nothing_is_repeated_where_nothing_is_chosen(kit: Kit, olga: Session) -> None:
    batch = await batch_of(kit, olga)
    with pytest.raises(FieldErrors) as caught:
        await kit.portal.batches.repeat(olga, batch, [], "same")
    assert set(caught.value.errors) == {"card"}
    assert await kit.portal.batches.repeat(olga, batch, ["ab" * 16], "same") is None
    with pytest.raises(NotFound):
        await kit.portal.batches.complete(olga, "ab" * 16)

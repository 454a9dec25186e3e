"""Batches of temporary cards: how they are made, what fails on the way, how it is repeated."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from portal.errors import WrongState
from portal.model.states import ProcessState, Role
from portal.processes import card_batches
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.store.tables import Card, CardBatchPosition, ManagedCard, Order
from portal.views import ObjectRef
from protocol.messages import (
    Changing,
    Finished,
    Proceed,
    Receipt,
)
from tests.portal.processes.test_card_proof import own
from tests.support.batch_orders import AES, batch_of, begun, count, said, seen, states, torn, written
from tests.support.databases import BACKENDS
from tests.support.extended_cards import FACTORY, options, ordered, proved, question

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


@pytest.fixture
async def olga(kit: Kit) -> Session:
    """An operator."""
    return await kit.person("olga@example.org", [Role.OPERATOR])


@pytest.fixture
async def otto(kit: Kit) -> Session:
    """Another one."""
    return await kit.person("otto@example.org", [Role.OPERATOR])


async def rows(kit: Kit, card: str) -> tuple[Card, ManagedCard | None]:
    async with kit.database.read() as tx:
        return await tx.get_one(Card, card), await tx.get(ManagedCard, card)


def secrets_of(agent: SoftwareAgent, proceed: Proceed) -> tuple[bytes, ...]:
    """The management key, PUK and PIN that an order brings."""
    tokens = (proceed.management_keys[0], proceed.new_puk, proceed.pin)
    return tuple(bytes(agent.ephemeral.decrypt(token)) for token in tokens if token is not None)


# --- production


async def test_cards_are_made_one_after_the_other_each_with_its_own(kit: Kit, olga: Session) -> None:
    """Orders, identities, PUKs, PINs and management keys are all different; nothing is certified; the end closes it."""
    batch, batches = await batch_of(kit, olga, first=7), kit.portal.batches
    process, device, kept = await batches.complete(olga, batch), None, []
    for number in (1, 2, 3):
        assert process is not None
        agent, proceed = await begun(kit, olga, process, device)
        order = ordered(agent)
        assert (order.keys, order.pin.kind, order.new_puk) == ([], "given", True)
        assert order.label == f"Visitor {number + 6} ({number} of 3)"
        assert order.identity is not None
        assert order.identity.unnamed
        assert agent.order is not None
        assert await proved(agent, FACTORY, question())
        kept.append((agent.order.jti, order.guid, *secrets_of(agent, proceed)))
        assert await said(agent, None, f"700{number}", 2) is None
        await agent.say(Changing())
        await agent.say(Receipt(guid=order.guid, management_replaced=AES, puk_replaced=True))
        assert isinstance(await agent.hear(), Finished)
        device = agent
        view = await kit.services.process(olga, process)
        assert (view.step, view.in_run, view.goes_on, view.batch) == ("details", True, number > 1, batch)
        _, process = await batches.go_on(olga, process)
    assert process is None
    assert all(len(set(column)) == 3 for column in zip(*kept, strict=True))
    view_ = await seen(kit, olga, batch)
    assert [(place.state, place.serial) for place in view_.places] == [
        ("Unassigned", "7001"),
        ("Unassigned", "7002"),
        ("Unassigned", "7003"),
    ]
    card, managed = await rows(kit, view_.places[0].card)
    assert managed is not None
    assert (card.guid, card.owner_id) == (kept[0][1], olga.user.id)
    assert (managed.key_generation, managed.key_algorithm, managed.pending_puk) == (1, "AES-192", None)
    assert (managed.prepared_at, managed.encoded_for) == (kit.clock.now, None)
    assert await batches.complete(olga, batch) is None
    assert (await batches.all(olga))[0].closed_at == kit.clock.now


async def test_the_first_holder_gets_another_pin_and_identity(kit: Kit, olga: Session) -> None:
    """The card is known by the identity that it has, by its own key, and no other blank one is taken for it."""
    root = await kit.person("root@example.org", [Role.ADMINISTRATOR])
    await options(kit, root, TempCardsEncode=["true"], TempCardsKeyAlgorithm=["P-256"])
    await kit.person()
    batch = await batch_of(kit, olga, 1)
    made, proceed = await begun(kit, olga, await kit.portal.batches.complete(olga, batch))
    key, puk, _ = secrets_of(made, proceed)
    await written(made, "7001")
    ref = ObjectRef("temporary_card", ordered(made).card)
    view = await kit.services.start_process(olga, AssignTemporaryCard.name, ref)
    await kit.services.next(olga, view.id, view.version, {"Person": ["ada@example.org"]})
    view = await kit.services.start_process(olga, ExtendTemporaryCard.name, ref)
    view = await kit.services.next(olga, view.id, view.version)
    agent, told = await begun(kit, olga, view.id, made)
    order = ordered(agent)
    assert order.identity is not None
    assert (order.identity.previous, order.identity.serial) == (ordered(made).guid, "7001")
    assert (order.identity.blank, order.identity.unnamed) == (False, False)
    assert order.guid != ordered(made).guid
    assert (order.pin.kind, order.new_puk, order.reset) == ("new", False, False)
    assert told.puk is not None
    assert bytes(agent.ephemeral.decrypt(told.puk)) == puk
    assert await proved(agent, key, own(1))


# --- what fails


async def test_a_card_that_failed_is_finished_or_another_one_takes_its_place(kit: Kit, olga: Session) -> None:
    """The same card is asked for by what it told, with the same PUK; another one gets nothing that it may have."""
    batch, batches = await batch_of(kit, olga, 1), kit.portal.batches
    process = await batches.complete(olga, batch)
    agent, proceed = await begun(kit, olga, process)
    first = (ordered(agent).guid, *secrets_of(agent, proceed)[:2])
    await torn(kit, agent, "7001")
    view = await seen(kit, olga, batch)
    assert (view.left, view.failed, view.places[0].state) == (1, 1, "Failed")
    assert view.places[0].problem is not None
    assert view.places[0].problem.error == "pcsc_card_removed"
    again, told = await begun(
        kit, olga, await batches.repeat(olga, batch, [view.places[0].card], "same"), agent
    )
    order = ordered(again)
    assert order.identity is not None
    assert (order.guid, order.identity.serial, told.puk_unsure) == (first[0], "7001", True)
    assert secrets_of(again, told)[:2] == first[1:]
    await torn(kit, again, "7001")
    other, fresh = await begun(
        kit, olga, await batches.repeat(olga, batch, [view.places[0].card], "another"), agent
    )
    order = ordered(other)
    assert order.identity is not None
    assert (order.identity.serial, order.identity.previous, fresh.puk_unsure) == (None, None, False)
    assert order.guid not in (first[0], "")
    assert await proved(other, FACTORY, question())
    assert not set(secrets_of(other, fresh)[:2]) & set(first[1:])
    assert await said(other, None, "7002", 2) is None
    await other.say(Changing())
    await other.say(Receipt(guid=order.guid, management_replaced=AES, puk_replaced=True))
    assert isinstance(await other.hear(), Finished)
    card, managed = await rows(kit, order.card)
    assert managed is not None
    assert (card.serial, card.guid, card.state) == ("7002", order.guid, "Unassigned")
    assert (managed.key_generation, managed.pending_guid, managed.puk_unsure) == (2, None, False)
    assert (await count(kit, Card), await count(kit, CardBatchPosition), await count(kit, Order)) == (1, 1, 3)


async def test_a_card_that_was_made_wrong_is_made_again_as_the_same_card_object(
    kit: Kit, olga: Session
) -> None:
    """Cancelled before the other card is changed, the one that was made stays as it is."""
    batch, batches = await batch_of(kit, olga, 1), kit.portal.batches
    process = await batches.complete(olga, batch)
    agent, proceed = await begun(kit, olga, process)
    await written(agent, "7001")
    card = ordered(agent).card
    before = await rows(kit, card)
    assert await batches.repeat(olga, batch, [card], "same") != process
    again = await batches.repeat(olga, batch, [card], "another")
    assert again is not None
    assert await batches.repeat(olga, batch, [card], "another") == again
    other, fresh = await begun(kit, olga, again, agent)
    assert secrets_of(other, fresh)[1] != secrets_of(agent, proceed)[1]
    await kit.services.cancel(olga, again)
    after = await rows(kit, card)
    assert (after[0].state, after[0].guid, after[0].sealed_puk, after[0].serial) == (
        "Unassigned",
        before[0].guid,
        before[0].sealed_puk,
        "7001",
    )
    assert after[1] is not None
    assert (after[1].key_generation, after[1].prepared_at) == (1, kit.clock.now)
    other, _ = await begun(kit, olga, await batches.repeat(olga, batch, [card], "another"), agent)
    await torn(kit, other, "7002")
    row, managed = await rows(kit, card)
    assert managed is not None
    assert (row.state, row.serial, row.sealed_puk, managed.key_generation) == ("Failed", "7002", None, 0)


async def test_a_run_goes_past_a_card_that_fails_and_comes_to_each_once(kit: Kit, olga: Session) -> None:
    batch, batches = await batch_of(kit, olga, 2), kit.portal.batches
    process = await batches.complete(olga, batch)
    assert process is not None
    agent, _ = await begun(kit, olga, process)
    with pytest.raises(WrongState):
        await batches.go_on(olga, process)  # its order is being carried out
    await torn(kit, agent)
    view = await kit.services.process(olga, process)
    assert (view.state, view.in_run) == (ProcessState.FAILED, True)
    _, second = await batches.go_on(olga, process)
    agent, _ = await begun(kit, olga, second, agent)
    await written(agent)
    assert second is not None
    assert (await batches.go_on(olga, second))[1] is None
    assert await states(kit, olga, batch) == ["Failed", "Unassigned"]
    assert await batches.complete(olga, batch) not in (process, second, None)


async def test_two_operators_get_different_cards_and_one_goes_on_where_the_other_has_stopped(
    kit: Kit, olga: Session, otto: Session
) -> None:
    batch, batches = await batch_of(kit, olga, 2), kit.portal.batches
    hers, his = await asyncio.gather(batches.complete(olga, batch), batches.complete(otto, batch))
    views = [await kit.services.process(who, each or "") for who, each in ((olga, hers), (otto, his))]
    assert [view.target is not None and view.target.label for view in views] in (
        ["Visitor 1", "Visitor 2"],
        ["Visitor 2", "Visitor 1"],
    )
    assert await batches.complete(olga, batch) == hers  # taken up where it stands
    third = await kit.person("ole@example.org", [Role.OPERATOR])
    assert await batches.complete(third, batch) is None
    assert {place.taken_by for place in (await seen(kit, third, batch)).places} == {
        "olga@example.org",
        "otto@example.org",
    }
    kit.clock.now += card_batches.RESERVED_SECONDS
    taken = await batches.complete(third, batch)
    assert taken not in (hers, his, None)
    agent, _ = await begun(kit, third, taken)
    await written(agent, "7001")
    card, _ = await rows(kit, ordered(agent).card)
    assert card.owner_id == third.user.id


async def test_a_device_that_never_comes_back_leaves_a_card_that_the_next_run_finishes(
    kit: Kit, olga: Session, otto: Session
) -> None:
    """The agent was killed in the middle; after its time to resume another operator goes on, days later."""
    batch, batches = await batch_of(kit, olga, 2), kit.portal.batches
    agent, _ = await begun(kit, olga, await batches.complete(olga, batch))
    assert await said(agent, None, None) is None
    await agent.say(Changing())
    assert agent.order is not None
    await kit.portal.incoming.carry_out_now(agent.order.jti)
    kit.clock.now += 3 * 86_400
    otto = await kit.login("otto@example.org")
    await kit.portal.reconciler.run_due()
    assert await states(kit, otto, batch) == ["Failed", "Requested"]
    process = await batches.complete(otto, batch)
    again, told = await begun(kit, otto, process)
    assert (ordered(again).guid, told.puk_unsure) == (ordered(agent).guid, True)
    await written(again)
    assert await states(kit, otto, batch) == ["Unassigned", "Requested"]

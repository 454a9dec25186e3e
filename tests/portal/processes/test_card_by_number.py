"""A card that a person picks by the number printed on it: the portal refuses one that is another card of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.model.states import TemporaryCardState
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.withdraw_temporary_card import WithdrawTemporaryCard
from portal.store.tables import AuditEntry, Card, ManagedCard
from protocol.messages import IdentityAnswer, IdentityQuestion
from tests.support.databases import BACKENDS
from tests.support.extended_cards import (
    FACTORY,
    ada,
    assigned,
    begun,
    complete,
    done,
    encoded,
    olga,
    ordered,
    proved,
    question,
    row,
    step,
    undone,
)
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.portal_kit import Kit

__all__ = ["ada", "olga"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)
MAKERS = "10" * 16


async def another(kit: Kit, olga: Session) -> Card:
    """A card of the portal's that is in use."""
    cy = await kit.person("cy@example.org")
    card = await assigned(kit, olga, cy, "00 41")
    async with kit.database.write() as tx:
        found = await tx.get_one(Card, card)
        found.label = "Visitor 6"
        return found


async def test_a_card_that_is_another_one_of_the_portals_gets_no_key_and_nothing_becomes_of_the_order(
    kit: Kit, olga: Session, ada: Session
) -> None:
    other = await another(kit, olga)
    card = await assigned(kit, olga, ada)
    _, agent, _ = await begun(kit, olga, card)
    await agent.say(IdentityQuestion(number=1, guid=other.guid))
    assert await undone(agent) == "card_of_other_object"
    assert await state_of_card(kit, card) == TemporaryCardState.ASSIGNED
    assert await state_of_card(kit, other.id) == TemporaryCardState.ASSIGNED


async def test_neither_one_that_an_order_may_have_given_it_before_it_was_torn_out(
    kit: Kit, olga: Session, ada: Session
) -> None:
    other = await another(kit, olga)
    async with kit.database.write() as tx:
        now = kit.clock()
        tx.add(ManagedCard(card_id=other.id, key_generation=0, pending_guid=MAKERS, changed_at=now))
    _, agent, _ = await begun(kit, olga, await assigned(kit, olga, ada))
    await agent.say(IdentityQuestion(number=1, guid=MAKERS))
    assert await undone(agent) == "card_of_other_object"


async def test_a_card_that_was_encoded_is_named_by_its_identity_and_by_no_person(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    device = await encoded(kit, olga, card)
    await step(kit, olga, WithdrawTemporaryCard.name, card, {"Reason": ["brought back"]})
    await kit.person("bob@example.org")
    await step(kit, olga, AssignTemporaryCard.name, card, {"Person": ["bob@example.org"]})
    _, agent, _ = await begun(kit, olga, card, device)
    identity = ordered(agent).identity
    assert identity is not None
    assert (identity.printed, identity.previous) == (None, (await row(kit, card)).guid)
    await agent.say(IdentityQuestion(number=1, guid=MAKERS))
    assert await undone(agent) == "message_unexpected"


async def test_a_card_of_an_ended_object_and_one_from_its_maker_may_be_encoded(
    kit: Kit, olga: Session, ada: Session
) -> None:
    """The questions count with those of the management key: asked again under its number one isn't answered again."""
    other = await another(kit, olga)
    async with kit.database.write() as tx:
        (await tx.get_one(Card, other.id)).state = TemporaryCardState.LOCKED.value
    card = await assigned(kit, olga, ada)
    view, agent, _ = await begun(kit, olga, card)
    identity = ordered(agent).identity
    assert identity is not None
    assert (identity.printed, identity.serial, identity.blank) == ("0042", "42", True)
    for number, guid in ((1, other.guid), (2, MAKERS)):
        await agent.say(IdentityQuestion(number=number, guid=guid))
        assert await agent.hear() == IdentityAnswer(number=number)
    await agent.say(IdentityQuestion(number=2, guid=MAKERS))
    assert await proved(agent, FACTORY, question(3))
    await complete(agent)
    await done(kit, olga, view)
    async with kit.database.read() as tx:
        noted = list(await tx.scalars(select(AuditEntry).where(AuditEntry.action == "card.picked")))
    assert [entry.details["guid"] for entry in noted] == [other.guid, MAKERS]

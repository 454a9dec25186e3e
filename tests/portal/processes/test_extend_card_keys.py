"""A card that is extended asks for its management key: what is answered, and how it gets a key of its own."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from portal.model.states import ProcessState, TemporaryCardState
from portal.processes import management_keys
from portal.store.tables import AuditEntry, ManagedCard
from protocol.messages import (
    ManagementAlgorithm,
    ManagementQuestion,
    Proceed,
)
from tests.support.databases import BACKENDS
from tests.support.extended_cards import (
    FACTORY,
    ada,
    assigned,
    begun,
    certificates,
    complete,
    done,
    managed,
    olga,
    ordered,
    proved,
    question,
    undone,
)
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.portal_kit import Kit

__all__ = ["ada", "olga"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


def own(number: int, refused: int = 0) -> ManagementQuestion:
    """A question of a card with a key of its own, in mutual authentication."""
    return question(
        number,
        refused,
        algorithm=ManagementAlgorithm.AES_192,
        challenge=None,
        witness=secrets.token_bytes(16),
    )


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

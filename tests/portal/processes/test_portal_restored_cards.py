"""A card's file that is older than one that was seen before: noted once, shown, and in nobody's way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from portal.store.tables import AuditEntry, Card
from protocol.messages import CardGeneration
from tests.support.portal_kit import P256

if TYPE_CHECKING:
    from portal.views import CardView, Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

_AT_RECEIPT = 41


async def _with_card(kit: Kit) -> tuple[Session, SoftwareAgent, CardView]:
    """A person with a card, and its device, connected again."""
    await kit.set_options(**P256)
    session = await kit.person()
    agent = await kit.known_agent(session)
    (card,) = await kit.services.cards(session)
    return session, agent, card


async def _claim(kit: Kit, session: Session, agent: SoftwareAgent, *told: CardGeneration) -> None:
    """Claim the order of another card; the claim is granted whatever it tells."""
    view, code = await kit.at_open(session)
    agent.cards = list(told)
    assert (await agent.claim(code.code)).order
    await kit.services.cancel(session, view.id)


async def _again(kit: Kit, agent: SoftwareAgent) -> SoftwareAgent:
    fresh = await kit.agent()
    fresh.device = agent.device
    return fresh


async def _noted(kit: Kit) -> list[AuditEntry]:
    async with kit.database.read() as tx:
        query = select(AuditEntry).where(AuditEntry.action == "card.restored_file")
        return list(await tx.scalars(query))


async def _generation(kit: Kit, guid: str) -> int:
    async with kit.database.read() as tx:
        return (await tx.scalars(select(Card.generation).where(Card.guid == guid))).one()


async def test_a_lower_generation_is_noted_once(kit: Kit) -> None:
    session, agent, card = await _with_card(kit)
    assert not card.restored
    await _claim(kit, session, agent, CardGeneration(card.guid, _AT_RECEIPT - 1))
    (entry,) = await _noted(kit)
    assert (entry.object_id, entry.kind) == (card.id, "virtual_smart_card")
    assert entry.actor == f"device:{agent.device.thumbprint}"
    assert entry.details == {"generation": _AT_RECEIPT - 1, "seen": _AT_RECEIPT}
    assert [item.restored for item in await kit.services.cards(session)] == [True]
    await _claim(kit, session, await _again(kit, agent), CardGeneration(card.guid, 3))
    await _claim(kit, session, await _again(kit, agent), CardGeneration(card.guid, 900))
    assert len(await _noted(kit)) == 1
    assert [item.restored for item in await kit.services.cards(session)] == [True]


async def test_the_lower_of_two_counts(kit: Kit) -> None:
    """Said twice, the higher one doesn't hide the lower one."""
    session, agent, card = await _with_card(kit)
    await _claim(kit, session, agent, CardGeneration(card.guid, 7), CardGeneration(card.guid, 90))
    assert len(await _noted(kit)) == 1


async def test_the_highest_that_was_seen_counts(kit: Kit) -> None:
    """Not the one of the receipt, nor the last one."""
    session, agent, card = await _with_card(kit)
    await _claim(kit, session, agent, CardGeneration(card.guid, 60))
    await _claim(kit, session, await _again(kit, agent), CardGeneration(card.guid, 50))
    (entry,) = await _noted(kit)
    assert entry.details == {"generation": 50, "seen": 60}


async def test_another_devices_cards_are_passed_over(kit: Kit) -> None:
    """Whoever knows a GUID can't have its card marked, nor raise what was seen."""
    session, _, card = await _with_card(kit)
    unknown = CardGeneration("0" * 32, 1)
    await _claim(kit, session, await kit.agent(), CardGeneration(card.guid, 1), unknown)
    await _claim(kit, session, await kit.agent(), CardGeneration(card.guid, 10_000))
    assert await _noted(kit) == []
    assert await _generation(kit, card.guid) == _AT_RECEIPT
    assert [item.restored for item in await kit.services.cards(session)] == [False]


async def test_equal_or_higher_is_as_it_should_be(kit: Kit) -> None:
    session, agent, card = await _with_card(kit)
    await _claim(kit, session, agent, CardGeneration(card.guid, _AT_RECEIPT))
    await _claim(kit, session, await _again(kit, agent), CardGeneration(card.guid, _AT_RECEIPT + 5))
    await _claim(kit, session, await _again(kit, agent))
    assert await _noted(kit) == []
    assert await _generation(kit, card.guid) == _AT_RECEIPT + 5

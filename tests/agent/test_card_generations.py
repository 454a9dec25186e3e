"""What a portal is told of the cards on this machine: its own ones, and how often their files were saved."""

from __future__ import annotations

import pytest

from agent import cards
from agent.journal_cards import JournalledCard
from agent.vsc import personalise
from agent.vsc.card import VirtualCard
from agent.vsc.store import CardStore
from protocol.errors import InlayError
from protocol.messages import StorageLevel
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts
from tests.support.fake_portal import FakePortal


def _loaded(agent: AgentParts, portal: FakePortal) -> VirtualCard:
    store = CardStore(agent.card_files()[0].parent, agent.device.secret(StorageLevel.FILE))
    return VirtualCard.load(store, agent.cards.card_name(agent.owner(portal)))


async def test_another_portals_cards_are_not_told(agent: AgentParts, portal: FakePortal) -> None:
    await agent.submit(portal).wait()
    [row] = agent.journal.get().cards().values()
    moved = JournalledCard(row.card, "other.test", row.jti, row.account, row.level, row.expires)
    agent.journal.get().add_card(moved)
    await agent.submit(portal, OTHER_CODE).wait()
    assert portal.orders[OTHER_CODE].claim.cards == []
    assert [card.guid for card in await agent.cards.generations("other.test")] != []


async def test_a_file_that_cannot_be_read_is_left_out(agent: AgentParts, portal: FakePortal) -> None:
    await agent.submit(portal).wait()
    [file] = agent.card_files()
    file.write_bytes(b"no card")
    assert await agent.cards.generations(portal.portal) == []


async def test_a_level_that_is_shut_stops_no_claim(
    agent: AgentParts, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await agent.submit(portal).wait()

    def shut(_level: StorageLevel) -> CardStore:
        raise InlayError("keystore_missing")

    monkeypatch.setattr(agent.device, "secret_unasked", shut)
    assert await agent.cards.generations(portal.portal) == []


async def test_no_more_than_a_claim_takes(
    agent: AgentParts, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await agent.submit(portal).wait()
    await agent.submit(portal, OTHER_CODE).wait()
    assert len(await agent.cards.generations(portal.portal)) == 2
    monkeypatch.setattr(cards, "_MOST_TOLD", 1)
    assert len(await agent.cards.generations(portal.portal)) == 1


async def test_an_old_file_is_told_as_old_as_it_is(agent: AgentParts, portal: FakePortal) -> None:
    """As it lies on the disk, whatever this process still remembers."""
    await agent.submit(portal).wait()
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    [file] = agent.card_files()
    old = file.read_bytes()
    [before] = await agent.cards.generations(portal.portal)
    assert before.guid == receipt.guid
    assert before.generation == receipt.generation + 1  # it was activated since
    personalise.activate(_loaded(agent, portal))
    [after] = await agent.cards.generations(portal.portal)
    assert after.generation == before.generation + 1
    file.write_bytes(old)
    await agent.submit(portal, OTHER_CODE).wait()
    assert portal.orders[OTHER_CODE].claim.cards == [before]


async def test_the_first_claim_tells_nothing(agent: AgentParts, portal: FakePortal) -> None:
    await agent.submit(portal).wait()
    assert portal.orders[CODE].claim.cards == []

"""An agent that is stopped while a card in a reader is being changed: at the next start portal and person are told."""

from __future__ import annotations

import asyncio
from pathlib import Path

from protocol.messages import ChangePin, PinPolicy
from tests.cards.simulated import PIN
from tests.support.agent_parts import CODE, running_agent
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import GUID, NEW, encode, encoding_agent, order, personalised
from tests.support.simulated_readers import SimulatedReaders

GENERATE, VERIFY, CHANGE = 0x47, 0x20, 0x24


async def stopped_while_the_card_is_away(
    home: Path, portal: FakePortal, instruction: int
) -> SimulatedReaders:
    """An agent that ends while it waits for a card, which was torn out at an instruction's first command."""
    readers = SimulatedReaders()
    async with encoding_agent(home, readers, portal) as agent:
        readers.put(personalised())
        readers.tear = lambda _number, apdu: "after" if apdu[1] == instruction and len(apdu) > 5 else None
        typed = (PIN, NEW) if instruction == CHANGE else (PIN, None)
        agent.windows.answers = [(None, None), typed]
        ending = asyncio.create_task(order(agent, portal))
        window = await agent.windows.first()
        await window.until_said("back in the reader")
        await agent.desk.close()
        ending.cancel()
    return readers


async def told_at_the_next_start(home: Path, portal: FakePortal) -> tuple[str, list[str]]:
    """What an agent on the same folders tells the portal, and the person."""
    async with running_agent(home, SimulatedReaders()) as agent:
        await agent.desk.resume()
        at = await portal.orders[CODE].until(lambda item: item.undone is not None)
        assert at.undone is not None
        while agent.desk._tasks:
            await asyncio.wait(set(agent.desk._tasks))
        journal = agent.journal.get()
        assert not await asyncio.to_thread(journal.unsettled)
        return at.undone.error, [error.code for error in agent.notifier.errors]


async def test_before_anything_was_changed_nothing_is_said_to_be_half_done(
    tmp_path: Path, portal: FakePortal
) -> None:
    encode(portal, AUTHENTICATION)
    await stopped_while_the_card_is_away(tmp_path / "home", portal, VERIFY)
    assert await told_at_the_next_start(tmp_path / "home", portal) == ("order_interrupted", [])


async def test_a_card_that_was_being_changed_is_called_half_done(tmp_path: Path, portal: FakePortal) -> None:
    encode(portal, AUTHENTICATION)
    await stopped_while_the_card_is_away(tmp_path / "home", portal, GENERATE)
    told, notified = await told_at_the_next_start(tmp_path / "home", portal)
    assert (told, notified) == ("card_half_done", ["card_half_done"])


async def test_a_pin_command_without_an_answer_leaves_the_pin_unknown_and_says_so(
    tmp_path: Path, portal: FakePortal
) -> None:
    portal.operation = ChangePin(
        card="card-1", driver="piv", guid=GUID, label="Card 7", pin_policy=PinPolicy()
    )
    await stopped_while_the_card_is_away(tmp_path / "home", portal, CHANGE)
    told, notified = await told_at_the_next_start(tmp_path / "home", portal)
    assert (told, notified) == ("card_pin_unknown", ["card_pin_unknown"])

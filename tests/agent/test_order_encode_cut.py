"""The order *encode card* cut off at every step: the card is the old one or the new one at the next start."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.orders import OrderRun
from protocol.errors import InlayError
from protocol.messages import (
    OrderState,
)
from tests.support.agent_parts import OTHER_CODE, AgentParts, running_agent
from tests.support.encode_orders import (
    card_to_encode,
    contents,
    copies,
    order,
)
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import PIN
from tests.support.processes import wait_until


@pytest.fixture
async def card(agent: AgentParts, portal: FakePortal) -> str:
    """A card with three keys; its file's name. The next order gives it a new 9A."""
    return await card_to_encode(agent, portal)


@pytest.mark.parametrize("step", ["copy", "generate 9A", "write 9A"])
async def test_killed_before_the_receipt_the_card_is_as_it_was(
    agent: AgentParts, portal: FakePortal, card: str, tmp_path: Path, step: str
) -> None:
    before = await contents(agent, card)
    reached = asyncio.Event()

    async def stand_still(self: Any, name: str, work: Any) -> Any:
        result = await record(self, name, work)
        if name == step:
            reached.set()
            await asyncio.Event().wait()
        return result

    record = OrderRun.record
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(OrderRun, "record", stand_still)
        agent.windows.answers = [(PIN, None)]
        agent.submit(portal, OTHER_CODE)
        await reached.wait()
        assert copies(agent) != []
        await kill(agent)
    async with running_agent(tmp_path / "home") as restarted:
        await restarted.desk.resume()
        at = await portal.orders[OTHER_CODE].until(lambda item: item.undone is not None)
        assert at.undone is not None
        assert at.undone.error == "order_interrupted"
        assert await contents(restarted, card) == before
        assert copies(restarted) == []


async def kill(agent: AgentParts) -> None:
    """End an agent without letting it undo anything, as SIGKILL would."""
    for task in [*agent.desk._tasks]:
        task.cancel()

    async def nothing(*_arguments: Any, **_named: Any) -> None:
        return

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(agent.desk, "undo", nothing)
        await agent.desk.close()


@pytest.mark.parametrize("cut", ["before", "between", "after"])
async def test_killed_around_the_taking_on_the_card_is_the_new_one_at_the_next_start(
    agent: AgentParts,
    portal: FakePortal,
    card: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cut: str,
) -> None:
    before = await contents(agent, card)

    async def dies(*_arguments: Any) -> None:
        raise InlayError("internal")

    with monkeypatch.context() as patched:
        if cut == "before":
            patched.setattr(agent.care, "take_on", dies)
        elif cut == "between":  # the card has taken it on, the copy is still there
            patched.setattr(agent.care._copies, "drop", dies)
        else:
            taken = agent.care.take_on

            async def take_on_then_die(*arguments: Any) -> Any:
                await taken(*arguments)
                raise InlayError("internal")

            patched.setattr(agent.care, "take_on", take_on_then_die)
        agent.windows.answers = [(PIN, None)]
        with pytest.raises(InlayError):
            await agent.submit(portal, OTHER_CODE).wait()
    async with running_agent(tmp_path / "home") as restarted:
        await restarted.desk.resume()
        await asyncio.to_thread(wait_until, lambda: copies(restarted) == [], "the copy to be gone")
        await settled(restarted)
        found = await contents(restarted, card)
    assert found["9A"] != before["9A"]
    assert (found["9C"], found["9D"]) == (before["9C"], before["9D"])
    assert portal.orders[OTHER_CODE].state is OrderState.FINISHED


async def settled(agent: AgentParts) -> None:
    """Wait until no order is left to be looked after."""
    await asyncio.to_thread(
        wait_until, lambda: not agent.journal.get().unsettled(), "the order to be settled"
    )


async def test_a_card_that_was_deleted_meanwhile_is_not_waited_for(
    agent: AgentParts, portal: FakePortal, card: str
) -> None:
    portal.faults.silent = {"receipt"}
    ending = asyncio.create_task(order(agent, portal))
    at = await (await portal.claimed(OTHER_CODE)).until(lambda item: item.receipt is not None)
    await agent.care.delete(card)
    assert at.receipt is not None
    answer = portal._react(at, at.receipt)
    assert answer is not None
    await portal.say(at, answer)
    assert await ending == "finished"
    assert copies(agent) == []
    assert agent.card_files() == []

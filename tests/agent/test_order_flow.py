"""The order *create virtual card* from claim to end, against a portal that keeps the contract."""

from __future__ import annotations

from tests.support.agent_parts import CODE, AgentParts
from tests.support.fake_portal import FakePortal


async def test_a_whole_order(agent: AgentParts, portal: FakePortal) -> None:
    await agent.submit(portal).wait()
    window = await agent.windows.first()
    assert window.details is not None
    assert portal.orders[CODE].receipt is not None
    assert len(agent.card_files()) == 1

"""How an order ended in a test: with which error, and with what left behind."""

from __future__ import annotations

from protocol.errors import InlayError
from tests.support.agent_parts import CODE, AgentParts
from tests.support.fake_portal import FakePortal


async def ended(agent: AgentParts, portal: FakePortal, code: str = CODE) -> str | None:
    """Carry a code out; the error it ended with."""
    try:
        await agent.submit(portal, code).wait()
    except InlayError as error:
        return error.code
    return None


async def nothing_left(agent: AgentParts, portal: FakePortal, error: str) -> None:
    """The portal has been told, and no card is there."""
    at = await portal.orders[CODE].until(lambda order: order.undone is not None)
    assert at.undone is not None
    assert at.undone.error == error
    assert agent.card_files() == []
    assert await agent.cards.overview() == []

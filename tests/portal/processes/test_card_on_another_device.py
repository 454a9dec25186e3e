"""An order about a card that is claimed by another device of the same account than the one that made the card."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal.views import ObjectRef
from protocol.messages import Binding, Transport
from tests.support import sample_tasks as samples
from tests.support.portal_kit import ORIGIN, P256, Kit

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.software_agent import SoftwareAgent

RENEW, CHANGE = "VirtualSmartCardProcRenew", "VirtualSmartCardProcChangePin"


async def two_devices(kit: Kit) -> tuple[Session, str, SoftwareAgent, SoftwareAgent]:
    """Ada, a card, the device that made it, and another one that she has used as well."""
    await kit.set_options(**P256)
    session = await kit.person()
    own = await kit.known_agent(session)
    (card,) = await kit.services.cards(session)
    return session, card.id, own, await kit.known_agent(session)


async def bound_by(
    kit: Kit, session: Session, name: str, card: str, agent: SoftwareAgent, how: Transport
) -> Binding:
    view = await kit.services.start_process(session, name, ObjectRef("virtual_smart_card", card))
    _, code = await samples.opened(kit, session, view)
    await agent.claim(code.code, how, ORIGIN if how is Transport.LOOPBACK else None)
    assert agent.order is not None
    return agent.order.binding


@pytest.mark.parametrize("how", [Transport.LINK, Transport.LOOPBACK])
@pytest.mark.parametrize("name", [RENEW, CHANGE])
async def test_the_person_has_to_say_that_it_is_theirs(kit: Kit, name: str, how: Transport) -> None:
    """Known or not: a code that got to it would otherwise have its keys certified in the place of the card's."""
    session, card, _, other = await two_devices(kit)
    assert await bound_by(kit, session, name, card, other, how) is Binding.NUMBER


@pytest.mark.parametrize("name", [RENEW, CHANGE])
async def test_the_cards_own_device_is_bound_as_before(kit: Kit, name: str) -> None:
    session, card, own, _ = await two_devices(kit)
    assert await bound_by(kit, session, name, card, own, Transport.LOOPBACK) is Binding.COMPLETION

"""A person whom an administrator shuts out while a device carries an order out: nothing of it becomes valid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal.model.states import UserState
from protocol.messages import Proceed, Undo
from tests.support import sample_tasks as samples
from tests.support.portal_kit import P256, Kit

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.software_agent import SoftwareAgent

ADA = "ada@example.org"


async def undone(agent: SoftwareAgent) -> tuple[str, object]:
    told = await agent.hear()
    assert isinstance(told, Undo), told
    return told.error.error, told.error.fields["state"]


@pytest.fixture
async def ada(kit: Kit) -> Session:
    await kit.set_options(**P256)
    return await kit.person(ADA)


@pytest.mark.parametrize("state", [UserState.LOCKED, UserState.INACTIVE])
async def test_no_certificate_is_asked_for(kit: Kit, ada: Session, state: UserState) -> None:
    view, agent = await kit.bound_agent(ada)
    assert isinstance(await agent.hear(), Proceed)
    await kit.portal.accounts.set_state(ADA, state)
    assert agent.order is not None
    await agent.say(agent.card.requests(agent.order))
    assert await undone(agent) == ("user_not_active", state.value)
    assert await samples.certificates_of(kit, view.id) == {}


async def test_no_archived_key_leaves(kit: Kit, ada: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """She is locked while the CA takes its time: what it issued is revoked, and the key stays here."""
    view, agent = await kit.bound_agent(ada)
    assert isinstance(await agent.hear(), Proceed)
    issue = kit.portal.context.ca.issue

    async def slow(request: object) -> bytes:
        await kit.portal.accounts.set_state(ADA, UserState.LOCKED)
        return await issue(request)  # type: ignore[arg-type]

    monkeypatch.setattr(kit.portal.context.ca, "issue", slow)
    assert agent.order is not None
    await agent.say(agent.card.requests(agent.order))
    assert await undone(agent) == ("user_not_active", "locked")
    assert len(await samples.certificates_of(kit, view.id)) == 3
    assert await kit.valid_at_ca() == []


async def test_no_receipt_makes_a_card_active(kit: Kit, ada: Session) -> None:
    _, agent = await kit.bound_agent(ada)
    receipt = await agent.make_card()
    await kit.portal.accounts.set_state(ADA, UserState.LOCKED)
    await agent.say(receipt)
    assert await undone(agent) == ("user_not_active", "locked")
    assert await kit.valid_at_ca() == []
    (card,) = await kit.services.cards(ada)
    assert card.state == "Registered"


async def test_a_device_that_has_the_consent_is_not_told_to_go_on(kit: Kit, ada: Session) -> None:
    agent = await kit.known_agent(ada)
    _, code = await kit.at_open(ada)
    await agent.claim(code.code)
    await kit.portal.accounts.set_state(ADA, UserState.LOCKED)
    await agent.consent()
    assert await undone(agent) == ("user_not_active", "locked")

"""Only the browser session that began an order gets its result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal.errors import NotFound, WrongState
from portal.model.states import ProcessState
from protocol import jose
from protocol.errors import InlayError
from protocol.messages import Transport, Undo

if TYPE_CHECKING:
    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent


async def _number_wanted(kit: Kit, session: Session) -> tuple[ProcessView, SoftwareAgent]:
    view, code = await kit.at_open(session)
    agent = await kit.agent()
    await agent.claim(code.code)
    await agent.consent(number="417")
    async for event in kit.services.events(session, view.id):
        if event.number_wanted:
            assert event.tries_left == 3
            break
    return view, agent


async def test_three_wrong_numbers_undo_the_order(kit: Kit) -> None:
    """The third is the last; the right one comes too late."""
    session = await kit.person()
    view, agent = await _number_wanted(kit, session)
    for left in (2, 1):
        result = await kit.services.enter_number(session, view.id, "000")
        assert (result.accepted, result.tries_left) == (False, left)
    with pytest.raises(InlayError) as caught:
        await kit.services.enter_number(session, view.id, "000")
    assert caught.value.code == "number_wrong"
    with pytest.raises(WrongState):
        await kit.services.enter_number(session, view.id, "417")
    told = await agent.hear()
    assert isinstance(told, Undo)
    assert told.error.error == "number_wrong"
    view = await kit.services.process(session, view.id)
    assert view.state is ProcessState.FAILED
    assert view.error is not None
    assert view.error.error == "number_wrong"
    assert await kit.services.cards(session) == []


async def test_the_number_from_another_session(kit: Kit) -> None:
    """The same person elsewhere is refused, and no try is lost."""
    session = await kit.person()
    view, _ = await _number_wanted(kit, session)
    elsewhere = await kit.login()
    with pytest.raises(InlayError) as caught:
        await kit.services.enter_number(elsewhere, view.id, "417")
    assert caught.value.code == "binding_refused"
    with pytest.raises(InlayError) as caught:
        await kit.services.new_code(elsewhere, view.id)
    assert caught.value.code == "binding_refused"
    assert (await kit.services.enter_number(session, view.id, "417")).accepted


async def test_another_person_sees_nothing(kit: Kit) -> None:
    """Another user's process doesn't exist."""
    session = await kit.person()
    view, _ = await _number_wanted(kit, session)
    stranger = await kit.person("eve@example.org")
    for call in (
        kit.services.process(stranger, view.id),
        kit.services.next(stranger, view.id, view.version),
        kit.services.cancel(stranger, view.id),
        kit.services.new_code(stranger, view.id),
        kit.services.enter_number(stranger, view.id, "417"),
        kit.services.complete(stranger, view.id, jose.new_nonce()),
        anext(aiter(kit.services.events(stranger, view.id))),
    ):
        with pytest.raises(NotFound):
            await call


async def test_no_number_before_consent(kit: Kit) -> None:
    """A number that nobody asked for."""
    session = await kit.person()
    view, code = await kit.at_open(session)
    with pytest.raises(WrongState):
        await kit.services.enter_number(session, view.id, "417")
    await (await kit.agent()).claim(code.code)
    with pytest.raises(WrongState):
        await kit.services.enter_number(session, view.id, "417")
    with pytest.raises(WrongState):
        await kit.services.complete(session, view.id, jose.new_nonce())


@pytest.mark.parametrize("number", [None, "12"])
async def test_consent_without_the_number(kit: Kit, number: str | None) -> None:
    """An agent that shows none, or not three digits, is refused."""
    session = await kit.person()
    view, code = await kit.at_open(session)
    agent = await kit.agent()
    await agent.claim(code.code)
    if number is None:
        await agent.consent(number=None)
    else:
        with pytest.raises(InlayError):
            await agent.consent(number=number)
    event = await kit.ended(session, view.id)
    assert event.error is not None
    assert event.error.error == "params_invalid"


async def test_completion_from_another_session_and_wrong(kit: Kit) -> None:
    """Another session is refused; a wrong secret undoes the order."""
    session = await kit.person()
    agent = await kit.known_agent(session)
    view, code = await kit.at_open(session)
    await agent.claim(code.code, Transport.LOOPBACK, agent.origin)
    assert agent.order is not None
    assert agent.order.completion is not None
    elsewhere = await kit.login()
    with pytest.raises(InlayError) as caught:
        await kit.services.complete(elsewhere, view.id, agent.order.completion)
    assert caught.value.code == "binding_refused"
    assert (await kit.services.process(session, view.id)).state is ProcessState.RUNNING
    with pytest.raises(InlayError) as caught:
        await kit.services.complete(session, view.id, jose.new_nonce())
    assert caught.value.code == "binding_refused"
    with pytest.raises(WrongState):
        await kit.services.complete(session, view.id, agent.order.completion)
    assert (await kit.services.process(session, view.id)).state is ProcessState.FAILED


async def test_nothing_is_sent_before_the_binding(kit: Kit) -> None:
    """Consent alone doesn't let the device go on: its requests are out of turn and end the order."""
    session = await kit.person()
    view, agent = await _number_wanted(kit, session)
    assert agent.order is not None
    assert agent.exchange is not None
    forced = agent.exchange.position
    agent.exchange.position = forced._replace(stage=type(forced.stage)("proceeding"))
    with pytest.raises(InlayError) as caught:
        await agent.say(agent.card.requests(agent.order))
    assert caught.value.code == "message_unexpected"
    assert (await kit.ended(session, view.id)).state == "undone"
    assert await kit.valid_at_ca() == []

"""Cancel, lost connections, lost acknowledgements, deadlines, and a portal that was stopped half-way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.errors import StalePage, WrongState
from portal.model.states import ProcessState
from portal.processes.issuing import issue_request
from portal.store.tables import CaIntent, Order
from protocol import jose
from protocol.errors import InlayError
from protocol.messages import (
    Certificates,
    ErrorData,
    Finished,
    OrderState,
    Proceed,
    Progress,
    Resume,
    ResumeParams,
    Step,
    Undo,
    Undone,
)
from tests.support.databases import BACKENDS
from tests.support.portal_kit import P256, PROCESS, running_portal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.portal_kit import Kit

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


@pytest.fixture
async def kit(kit: Kit) -> Kit:
    """Keys that are made quickly."""
    await kit.set_options(**P256)
    return kit


@pytest.mark.parametrize("moment", ["information", "waiting", "claimed", "consented", "certified"])
async def test_cancel_at_every_step(kit: Kit, moment: str) -> None:
    """Nothing is left valid, the device is told, a second Cancel changes nothing."""
    session = await kit.person()
    agent = await kit.agent()
    view = await kit.services.start_process(session, PROCESS)
    assert view.cancel_effect
    if moment != "information":
        view = await kit.services.next(session, view.id, view.version)
        code = await kit.services.new_code(session, view.id)
        if moment != "waiting":
            await agent.claim(code.code)
        if moment in ("consented", "certified"):
            await agent.consent(number="417")
        if moment == "certified":
            await kit.bind(session, view.id, "417")
            await agent.make_card()
    view = await kit.services.cancel(session, view.id)
    assert view.state is ProcessState.CANCELLED
    assert view.error is not None
    assert view.error.error == "cancelled_at_portal"
    assert not view.can_cancel
    assert (await kit.services.cancel(session, view.id)).version == view.version
    assert await kit.valid_at_ca() == []
    if moment in ("claimed", "consented", "certified"):
        told = await agent.hear()
        assert isinstance(told, Undo)
        await agent.say(Undone(error=told.error))
        await kit.portal.incoming.carry_out_now(agent.order.jti if agent.order else "")
        assert await order_state(kit, view.id) == "undone"
    with pytest.raises(WrongState) as caught:
        await kit.services.next(session, view.id, view.version)
    assert caught.value.would_do == ["running"]


async def order_state(kit: Kit, process_id: str) -> str:
    """The order's state as stored."""
    async with kit.database.read() as tx:
        return (await tx.execute(select(Order.state).where(Order.process_id == process_id))).scalar_one()


async def test_cancel_at_the_details_leaves_the_card(kit: Kit) -> None:
    """It is active and on the person's computer: Cancel says so, and closes the process alone."""
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    await agent.complete()
    view = await kit.services.process(session, view.id)
    assert "stays" in view.cancel_effect
    view = await kit.services.cancel(session, view.id)
    assert view.state is ProcessState.CANCELLED
    assert len(await kit.valid_at_ca()) == 3


async def test_cancel_and_receipt_race(kit: Kit) -> None:
    """One of them wins, and everybody agrees which."""
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    receipt = await agent.make_card()
    cancelled, _ = await asyncio.gather(
        kit.services.cancel(session, view.id), agent.say(receipt), return_exceptions=True
    )
    answer = await agent.hear()
    valid = await kit.valid_at_ca()
    view = await kit.services.process(session, view.id)
    if isinstance(answer, Finished):
        assert isinstance(cancelled, WrongState) or view.state is ProcessState.CANCELLED
        assert len(valid) == 3
    else:
        assert isinstance(answer, Undo)
        assert valid == []
        assert view.state is ProcessState.CANCELLED


@pytest.mark.parametrize("code", ["user_cancelled", "keystore_locked", "pcsc_no_service"])
async def test_the_device_gives_up(kit: Kit, code: str) -> None:
    """The page gets the cause, and nothing of the machine that isn't a page's business."""
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    assert isinstance(await agent.hear(), Proceed)
    await agent.say(Undone(error=ErrorData(error=code)))
    event = await kit.ended(session, view.id)
    assert event.error is not None
    assert event.error.error == ("internal" if code == "pcsc_no_service" else code)
    state = (await kit.services.process(session, view.id)).state
    assert state is (ProcessState.CANCELLED if code == "user_cancelled" else ProcessState.FAILED)
    assert agent.inbox.empty()


async def test_resume_after_the_portal_s_message_was_lost(kit: Kit) -> None:
    """The connection breaks while the portal sends: the message comes again, once."""
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    assert agent.order is not None
    assert isinstance(await agent.hear(), Proceed)
    agent.lose_acknowledgements = True
    await agent.say(agent.card.requests(agent.order))
    async for event in kit.services.events(session, view.id):
        if event.step is Step.WRITING:
            break
    await agent.close()
    agent.lose_acknowledgements = False
    await agent.connect()
    result = await agent.resume()
    assert (result.state, result.received) == (OrderState.RUNNING, 2)
    certificates = await agent.hear()
    assert isinstance(certificates, Certificates)
    await agent.say(agent.receipt(certificates))
    assert isinstance(await agent.hear(), Finished)


async def test_resume_after_the_device_s_acknowledgement_was_lost(kit: Kit) -> None:
    """The device sends its receipt again: acknowledged, and carried out once."""
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    await agent.say(await agent.make_card())
    assert isinstance(await agent.hear(), Finished)
    await agent.close()
    await agent.connect()
    result = await agent.resume()
    assert (result.state, result.received) == (OrderState.FINISHED, 3)
    await agent.send_token(agent.sent[-1])
    assert agent.inbox.empty()
    assert (await kit.services.process(session, view.id)).step == "details"
    assert len(await kit.valid_at_ca()) == 3


async def test_a_newer_connection_ends_the_older(kit: Kit) -> None:
    """An order has one connection."""
    session = await kit.person()
    _, agent = await kit.bound_agent(session)
    assert isinstance(await agent.hear(), Proceed)
    other = await kit.agent()
    other.device, other.order, other.exchange = agent.device, agent.order, agent.exchange
    await other.resume()
    await agent.closed(seconds=5)


@pytest.mark.parametrize("wrong", ["another key", "another order", "old nonce", "another portal"])
async def test_resume_refused(kit: Kit, wrong: str) -> None:
    """Only the device of the order, on this connection, at this portal."""
    session = await kit.person()
    _, agent = await kit.bound_agent(session)
    old_nonce = agent.portal_nonce
    await agent.close()
    await agent.connect()
    assert agent.order is not None
    good = Resume(aud=agent.portal, jti=agent.order.jti, portal_nonce=agent.portal_nonce, received=0)
    key, message, code = {
        "another key": (jose.SigningKey.generate(), good, "message_signature_invalid"),
        "another order": (
            agent.device,
            Resume(aud=good.aud, jti="0" * 32, portal_nonce=good.portal_nonce, received=0),
            "order_unknown",
        ),
        "old nonce": (
            agent.device,
            Resume(aud=good.aud, jti=good.jti, portal_nonce=old_nonce, received=0),
            "order_wrong_nonce",
        ),
        "another portal": (
            agent.device,
            Resume(aud="other.test", jti=good.jti, portal_nonce=good.portal_nonce, received=0),
            "order_wrong_audience",
        ),
    }[wrong]
    with pytest.raises(InlayError) as caught:
        await agent.call("resume", ResumeParams(resume=key.sign(jose.RESUME, message)))
    assert caught.value.code == code


async def test_a_device_that_undid_by_itself(kit: Kit) -> None:
    """It says so at its next contact, and why: the page has never another cause."""
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    await agent.make_card()
    await agent.close()
    assert agent.exchange is not None
    agent.sent.append(agent.exchange.send(Undone(error=ErrorData(error="order_interrupted"))))
    await agent.connect()
    result = await agent.resume(outcome="undone")
    assert result.state is OrderState.RUNNING
    event = await kit.ended(session, view.id)
    assert event.error is not None
    assert event.error.error == "order_interrupted"
    assert (await kit.services.process(session, view.id)).state is ProcessState.FAILED
    assert await kit.valid_at_ca() == []


async def test_a_device_that_undid_by_itself_and_never_says_why(kit: Kit) -> None:
    """It has no more time than it had when it was heard of last."""
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    await agent.make_card()
    await agent.close()
    kit.clock.now += 3000
    await agent.connect()
    await agent.resume(outcome="undone")
    kit.clock.now += 601
    assert (await kit.portal.reconciler.run()).undone == 1
    assert (await kit.services.process(session, view.id)).state is ProcessState.FAILED
    assert await kit.valid_at_ca() == []


async def test_altered_and_out_of_turn(kit: Kit) -> None:
    """An altered message, and one with a gap in its numbers, end the order."""
    session = await kit.person()
    for fault in ("altered", "gap"):
        view, agent = await kit.bound_agent(session)
        assert agent.exchange is not None
        first = agent.exchange.send(Progress(step=Step.KEYS))
        second = agent.exchange.send(Progress(step=Step.WRITING))
        token = first[:-8] + "AAAAAAAA" if fault == "altered" else second
        with pytest.raises(InlayError) as caught:
            await agent.send_token(token)
        expected = "message_signature_invalid" if fault == "altered" else "message_wrong_sequence"
        assert caught.value.code == expected
        event = await kit.ended(session, view.id)
        assert event.error is not None
        assert event.error.error == expected


async def test_the_time_to_resume_runs_out(kit: Kit) -> None:
    """Undone on this side; the device hears of it at its next contact, and its late receipt changes nothing."""
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    receipt = await agent.make_card()
    await agent.close()
    kit.clock.now += 3601
    report = await kit.portal.reconciler.run()
    assert report.undone == 1
    assert await kit.valid_at_ca() == []
    failed = await kit.services.process(session, view.id)
    assert failed.error is not None
    assert failed.error.error == "order_undone"
    await agent.connect()
    assert agent.exchange is not None
    agent.sent.append(agent.exchange.send(receipt))
    result = await agent.resume()
    assert result.state is OrderState.UNDONE
    assert result.error is not None
    assert result.error.error == "order_undone"
    assert isinstance(await agent.hear(), Undo)
    assert await kit.valid_at_ca() == []


async def test_pages_that_are_sent_twice_or_too_late(kit: Kit) -> None:
    """Next twice does its work once; an older page is told."""
    session = await kit.person()
    view = await kit.services.start_process(session, PROCESS)
    assert (await kit.services.start_process(session, PROCESS)).id == view.id
    first, second = await asyncio.gather(
        kit.services.next(session, view.id, view.version), kit.services.next(session, view.id, view.version)
    )
    assert first.step == second.step == "open"
    assert first.version == second.version
    with pytest.raises(StalePage):
        await kit.services.next(session, view.id, view.version - 1)
    with pytest.raises(WrongState) as caught:
        await kit.services.next(session, view.id, first.version)
    assert caught.value.would_do == ["finished"]
    async with kit.database.read() as tx:
        assert len(list(await tx.scalars(select(Order.jti)))) == 1


@pytest.mark.parametrize("moment", ["stored", "won"])
async def test_a_portal_that_was_stopped_half_way(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """A receipt that was stored and not carried out, or won and not finished: finished at the next start."""
    async with running_portal(tmp_path, database=database_url) as kit:
        await kit.set_options(**P256)
        session = await kit.person()
        view, agent = await kit.bound_agent(session)
        receipt = await agent.make_card()
        assert agent.order is not None
        if moment == "stored":
            monkeypatch.setattr(kit.portal.incoming, "carry_out", lambda _jti: None)
            await agent.say(receipt)
            assert await kit.portal.incoming.unfinished() == [agent.order.jti]
        else:
            monkeypatch.setattr(kit.portal.incoming, "finish", _nothing)
            await agent.say(receipt)
            await kit.portal.incoming.carry_out_now(agent.order.jti)
        assert await order_state(kit, view.id) == ("running" if moment == "stored" else "finishing")
    async with running_portal(tmp_path, database=database_url) as kit:
        again = await kit.agent()
        again.device, again.order, again.exchange = agent.device, agent.order, agent.exchange
        await again.resume()
        assert isinstance(await again.hear(), Finished)
        assert await order_state(kit, view.id) == "finished"
        assert len(await kit.valid_at_ca()) == 3


async def _nothing(_jti: str) -> None:
    """What a portal that was killed does."""


async def test_an_intent_without_an_answer(tmp_path: Path, database_url: str) -> None:
    """The portal was killed while the CA signed: the certificate that nobody has is found and revoked."""
    async with running_portal(tmp_path, database=database_url) as kit:
        await kit.set_options(**P256)
        session = await kit.person()
        view, agent = await kit.bound_agent(session)
        await agent.make_card()
        await kit.services.cancel(session, view.id)
        assert await kit.valid_at_ca() == []
        issued = await _reissued(kit)
        assert len(await kit.valid_at_ca()) == 1
        report = await kit.portal.reconciler.run()
        assert report.recovered == 1
        assert await kit.valid_at_ca() == []
        assert issued


async def _reissued(kit: Kit) -> str:
    """An intent whose certificate the CA has issued, and whose answer never came."""
    async with kit.database.write() as tx:
        intent = (await tx.execute(select(CaIntent).where(CaIntent.request_id.endswith("9A")))).scalar_one()
        fresh = CaIntent(
            request_id="lost.9A",
            order_jti=intent.order_jti,
            request=intent.request,
            state="open",
            created_at=kit.clock(),
            changed_at=kit.clock(),
        )
        tx.add(fresh)
    await kit.portal.ca.issue(issue_request(fresh))
    return fresh.request_id

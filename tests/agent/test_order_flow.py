"""The order *create virtual card* from claim to end: how it fails, how it goes on, and how it succeeds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from agent import orders
from agent.journal import OrderRef
from agent.ports import NoDisplay, UserCancelled, WindowFailed
from agent.vsc.card import VirtualCard
from agent.vsc.store import CardStore
from protocol.errors import InlayError
from protocol.messages import (
    Algorithm,
    Binding,
    KeyOrder,
    KeySource,
    Order,
    OrderState,
    PinPolicy,
    Presence,
    Purpose,
    Step,
    StorageLevel,
    Transport,
)
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts, FakePage, cheap_cards, running_agent
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import PIN

RSA_KEYS = [
    KeyOrder("9A", Purpose.AUTHENTICATION, Algorithm.RSA_2048, KeySource.GENERATE, "CN=Alex Example"),
    KeyOrder("9D", Purpose.ENCRYPTION, Algorithm.RSA_2048, KeySource.IMPORT, "CN=Alex Example"),
]


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


# --- the person


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (UserCancelled("consent"), "user_cancelled"),
        (WindowFailed(-9), "window_failed"),
        (b"short", "window_failed"),
        (b"much too long", "window_failed"),
    ],
)
async def test_without_consent_nothing_is_made(
    agent: AgentParts, portal: FakePortal, answer: object, code: str
) -> None:
    agent.windows.answer = answer  # type: ignore[assignment]
    assert await ended(agent, portal) == code
    await nothing_left(agent, portal, code)
    assert portal.orders[CODE].consented is None


async def test_where_nobody_can_be_asked_the_order_is_undone(agent: AgentParts, portal: FakePortal) -> None:
    agent.windows.refuse = NoDisplay()
    assert await ended(agent, portal) == "no_display"
    await nothing_left(agent, portal, "no_display")
    assert [error.code for error in agent.notifier.errors] == ["no_display"]


async def test_a_person_who_does_not_answer_is_not_waited_for_for_ever(
    agent: AgentParts, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.handlers.create_virtual_card.CONSENT_SECONDS", 1)
    agent.windows.answer = None
    assert await ended(agent, portal) == "user_timeout"
    await nothing_left(agent, portal, "user_timeout")


@pytest.mark.parametrize("page", ["number", "certificates"])
async def test_closing_the_window_cancels_until_the_receipt(
    agent: AgentParts, portal: FakePortal, page: str
) -> None:
    portal.number_given = page != "number"
    portal.faults.silent = {"requests"}
    ending = agent.submit(portal)
    window = await agent.windows.first()
    await window.until(page)
    await window.close_by_person()
    with pytest.raises(InlayError) as caught:
        await ending.wait()
    assert caught.value.code == "user_cancelled"
    await nothing_left(agent, portal, "user_cancelled")


# --- what the order asks for


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"storage": [StorageLevel.TPM]}, "storage_refused"),
        ({"storage": [StorageLevel.KEYSTORE]}, "storage_refused"),
        ({"pin_policy": PinPolicy(min_length=9, max_length=12)}, "pin_policy_unsatisfiable"),
        (
            {
                "pin_policy": PinPolicy(
                    upper=Presence.DISALLOWED,
                    lower=Presence.DISALLOWED,
                    digits=Presence.DISALLOWED,
                    special=Presence.DISALLOWED,
                )
            },
            "pin_policy_unsatisfiable",
        ),
        ({"puk": "show"}, "order_malformed"),
        ({"escrow_key": None}, "order_malformed"),
        ({"keys": [RSA_KEYS[0], RSA_KEYS[0]]}, "order_malformed"),
    ],
)
async def test_what_cannot_be_done_is_refused_before_anything_is_made(
    agent: AgentParts, portal: FakePortal, parameters: dict[str, object], code: str
) -> None:
    portal.parameters = parameters
    assert await ended(agent, portal) == code
    await nothing_left(agent, portal, code)
    assert portal.orders[CODE].consented is None


async def test_an_algorithm_the_key_store_cannot_do_is_refused(
    agent: AgentParts, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.cards.SOFTWARE_ALGORITHMS", frozenset({Algorithm.RSA_2048}))
    assert await ended(agent, portal) == "algorithm_unsupported"
    await nothing_left(agent, portal, "algorithm_unsupported")


async def test_a_subject_that_is_none_is_refused(agent: AgentParts, portal: FakePortal) -> None:
    portal.keys = [KeyOrder("9A", Purpose.AUTHENTICATION, Algorithm.P_256, KeySource.GENERATE, "no=subject=")]
    assert await ended(agent, portal) == "order_malformed"
    await nothing_left(agent, portal, "order_malformed")


async def test_a_certificate_for_another_key_is_not_kept(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.ca = lambda _der: portal.ca.foreign_certificate()
    assert await ended(agent, portal) == "card_check_failed"
    await nothing_left(agent, portal, "card_check_failed")


async def test_a_certificate_that_is_none_is_not_kept(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.ca = lambda der: der[:-9]
    assert await ended(agent, portal) == "card_check_failed"
    await nothing_left(agent, portal, "card_check_failed")


async def test_a_full_disk_leaves_nothing(
    agent: AgentParts, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: object, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agent.vsc.store.write_durably", full)
    assert await ended(agent, portal) == "card_write_failed"
    await nothing_left(agent, portal, "card_write_failed")


# --- the portal


async def test_an_altered_message_ends_the_order(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.message["certificates"] = lambda token: (
        token[:-6] + ("A" if token[-6] != "A" else "B") + token[-5:]
    )
    assert await ended(agent, portal) == "message_signature_invalid"
    await nothing_left(agent, portal, "message_signature_invalid")


async def test_a_repeated_message_ends_the_order(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.message["certificates"] = lambda _token: portal.orders[CODE].outbox[1]
    assert await ended(agent, portal) == "message_wrong_sequence"
    await nothing_left(agent, portal, "message_wrong_sequence")


async def test_a_cancel_at_the_portal_is_carried_out(agent: AgentParts, portal: FakePortal) -> None:
    portal.number_given = False
    ending = agent.submit(portal)
    await (await agent.windows.first()).until("number")
    await portal.undo(portal.orders[CODE])
    with pytest.raises(InlayError) as caught:
        await ending.wait()
    assert caught.value.code == "cancelled_at_portal"
    await nothing_left(agent, portal, "cancelled_at_portal")
    assert agent.windows.opened[0].error is not None


async def test_after_the_receipt_the_portals_undo_still_counts(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.silent = {"receipt"}
    ending = agent.submit(portal)
    at = await portal.claimed(CODE)
    await at.until(lambda order: order.receipt is not None)
    await portal.undo(at, "order_undone")
    with pytest.raises(InlayError) as caught:
        await ending.wait()
    assert caught.value.code == "order_undone"
    await nothing_left(agent, portal, "order_undone")


async def test_a_silent_portal_is_given_up_in_time(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.silent = {"requests"}
    portal.resume_within = 1
    assert await ended(agent, portal) == "timeout"
    await nothing_left(agent, portal, "timeout")


async def test_a_portal_that_stays_away_is_given_up_and_told_later(
    agent: AgentParts, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "LAST_PAUSE", 0.3)
    portal.number_given = False
    portal.resume_within = 1
    ending = agent.submit(portal)
    await (await agent.windows.first()).until("number")
    port = int(portal.portal.partition(":")[2])
    await portal.stop()
    with pytest.raises(InlayError) as caught:
        await ending.wait()
    assert caught.value.code in ("order_undone", "timeout")
    assert agent.card_files() == []
    await portal.start(port)
    at = await portal.orders[CODE].until(lambda order: order.undone is not None)
    assert portal.resumes[-1].outcome == "undone"
    assert at.state is OrderState.UNDONE


@pytest.mark.parametrize("message", ["consented", "requests", "receipt"])
@pytest.mark.parametrize("moment", ["drop_before", "drop_after"])
async def test_an_order_goes_on_over_a_new_connection(
    agent: AgentParts, portal: FakePortal, message: str, moment: str
) -> None:
    getattr(portal.faults, moment).add(message)
    assert await ended(agent, portal) is None
    assert len(portal.resumes) == 1
    assert len(agent.card_files()) == 1


async def test_a_refused_resume_ends_the_order(agent: AgentParts, portal: FakePortal) -> None:
    portal.faults.drop_before.add("requests")
    portal.faults.refuse_resume = InlayError("order_unknown")
    assert await ended(agent, portal) == "order_unknown"
    assert agent.card_files() == []


async def test_after_the_receipt_an_unsigned_refusal_changes_nothing(
    agent: AgentParts, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that opens TLS could forge it; only the portal's signed word ends an order then."""
    monkeypatch.setattr(orders, "LAST_PAUSE", 0.3)
    portal.faults.drop_before.add("receipt")
    portal.faults.refuse_resume = InlayError("order_undone")
    ending = agent.submit(portal)
    await portal.connected(4)
    assert len(agent.card_files()) == 1
    portal.faults.refuse_resume = None
    await ending.wait()
    assert len(agent.card_files()) == 1


# --- one at a time


async def test_a_second_order_has_to_wait(agent: AgentParts, portal: FakePortal) -> None:
    agent.windows.answer = None
    agent.submit(portal)
    await agent.windows.first()
    with pytest.raises(InlayError) as caught:
        agent.submit(portal, OTHER_CODE)
    assert caught.value.code == "order_busy"


async def test_the_same_code_again_raises_the_window(agent: AgentParts, portal: FakePortal) -> None:
    agent.windows.answer = None
    first = agent.submit(portal)
    window = await agent.windows.first()
    await window.until("consent")
    assert agent.submit(portal) is first
    await window.until("raised")
    assert len(agent.windows.opened) == 1
    assert portal.connections == 1


# --- what binds the browser


async def test_the_number_goes_to_window_and_portal_and_never_to_the_page(
    agent: AgentParts, portal: FakePortal
) -> None:
    page = FakePage(portal.origin)
    await agent.submit(portal, transport=Transport.LOOPBACK, page=page).wait()
    window, consented = agent.windows.opened[0], portal.orders[CODE].consented
    assert consented is not None
    assert window.number == consented.number
    assert window.number is not None
    assert len(window.number) == 3
    assert page.secrets == []
    assert page.end == ("finished", None)
    assert page.steps == [
        Step.CONSENT,
        Step.BINDING,
        Step.KEYS,
        Step.CERTIFICATES,
        Step.WRITING,
        Step.PROVING,
    ]


async def test_the_completion_secret_goes_to_the_page_that_brought_the_code(
    agent: AgentParts, portal: FakePortal
) -> None:
    portal.binding = Binding.COMPLETION
    page = FakePage(portal.origin)
    await agent.submit(portal, transport=Transport.LOOPBACK, page=page).wait()
    assert page.secrets == [portal.orders[CODE].order.completion]
    consented = portal.orders[CODE].consented
    assert consented is not None
    assert consented.number is None
    assert agent.windows.opened[0].number is None


async def test_a_completion_secret_without_a_page_is_refused(agent: AgentParts, portal: FakePortal) -> None:
    portal.binding = Binding.COMPLETION
    assert await ended(agent, portal) == "binding_refused"
    assert agent.windows.opened == []


async def test_no_completion_before_consent(agent: AgentParts, portal: FakePortal) -> None:
    portal.binding = Binding.COMPLETION
    agent.windows.answer = UserCancelled("consent")
    page = FakePage(portal.origin)
    with pytest.raises(InlayError):
        await agent.submit(portal, transport=Transport.LOOPBACK, page=page).wait()
    assert page.secrets == []
    assert page.end is not None
    assert page.end[0] == "undone"


async def test_a_known_device_is_not_asked_for_a_number(agent: AgentParts, portal: FakePortal) -> None:
    portal.binding = Binding.NONE
    await agent.submit(portal).wait()
    assert agent.windows.opened[0].number is None


# --- to the end


@pytest.mark.parametrize("rsa", [False, True])
async def test_a_whole_order(agent: AgentParts, portal: FakePortal, rsa: bool) -> None:
    if rsa:
        portal.keys = RSA_KEYS
    await agent.submit(portal).wait()
    window = agent.windows.opened[0]
    assert window.prompt is not None
    assert window.prompt.origin == portal.origin
    assert window.prompt.portal_name == "Test portal"
    assert "alex@example.org" in window.prompt.account
    assert window.details is not None
    assert [line.purpose for line in window.details.certificates] == [key.purpose for key in portal.keys]
    assert window.details.storage_level == "file"
    [row] = await agent.cards.overview()
    assert row["state"] == "active"
    assert row["account"] == "alex@example.org"
    assert row["card"] in agent.places.shown
    journal = agent.journal.get()
    ref = OrderRef(portal.portal, portal.orders[CODE].order.jti)
    assert journal.order(ref).settled
    steps = journal.steps(ref)
    assert steps[0] == ("make", "before")
    assert all((step, "after") in steps for step, phase in steps if phase == "before")


async def test_the_puk_goes_to_escrow_and_works(agent: AgentParts, portal: FakePortal) -> None:
    await agent.submit(portal).wait()
    requests = portal.orders[CODE].requests
    assert requests is not None
    assert requests.puk is not None
    puk = portal.escrow.decrypt(requests.puk)
    assert len(puk) == 8
    assert agent.windows.opened[0].puk is None
    await _unblocks(agent, portal, puk)


async def test_the_puk_is_shown_where_the_portal_does_not_want_it(
    agent: AgentParts, portal: FakePortal
) -> None:
    portal.parameters = {"puk": "show", "escrow_key": None}
    await agent.submit(portal).wait()
    requests = portal.orders[CODE].requests
    assert requests is not None
    assert requests.puk is None
    puk = agent.windows.opened[0].puk
    assert puk is not None
    await _unblocks(agent, portal, bytearray(puk))


async def _unblocks(agent: AgentParts, portal: FakePortal, puk: bytearray) -> None:
    store = CardStore(agent.folders.state / "cards" / "file", agent.device.secret(StorageLevel.FILE))
    card = VirtualCard.load(store, agent.cards.card_name(agent.owner(portal)))
    card.transmit(bytes.fromhex("00A404000BA00000030800001000010000"))
    reset = bytes.fromhex("002C008010") + bytes(puk) + b"new-pin1"
    assert await asyncio.to_thread(card.transmit, reset) == b"\x90\x00"


async def test_pin_and_puk_are_in_no_file_and_the_pin_is_wiped(
    agent: AgentParts, portal: FakePortal, caplog: pytest.LogCaptureFixture
) -> None:
    portal.parameters = {"puk": "show", "escrow_key": None}
    await agent.submit(portal).wait()
    window = agent.windows.opened[0]
    assert window.pin is not None
    assert bytes(window.pin) == bytes(len(PIN))
    written = agent.everything_written() + caplog.text.encode()
    assert window.puk is not None
    assert window.number is not None
    for secret in (PIN, window.puk, b"BEGIN PRIVATE KEY"):
        assert secret not in written


async def test_an_order_is_never_begun_twice_not_even_by_another_agent_process(
    agent: AgentParts, portal: FakePortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await agent.submit(portal).wait()
    old = portal.orders.pop(CODE)
    await agent.desk.close()
    agent.journal.close()
    async with running_agent(tmp_path / "home") as again:
        portal.faults.order_token = lambda order: portal.key.sign(
            "inlay-order+jwt", _with_jti(order, old.order.jti)
        )
        assert await ended(again, portal) == "order_replayed"
        assert again.windows.opened == []
    cheap_cards(monkeypatch)


def _with_jti(order: Order, jti: str) -> Order:
    return msgspec.structs.replace(order, jti=jti)


async def test_a_code_that_had_begun_elsewhere_in_time_is_said(agent: AgentParts, portal: FakePortal) -> None:
    await agent.submit(portal).wait()
    assert await ended(agent, portal) == "order_replayed"

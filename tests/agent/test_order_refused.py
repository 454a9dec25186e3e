"""The order *create virtual card* that a person, the machine or its own contents stop: nothing is left behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.order_ports import Submission
from agent.ports import NoDisplay, UserCancelled, UserEnvironment, WindowFailed
from protocol.errors import InlayError
from protocol.messages import (
    Algorithm,
    KeyOrder,
    KeySource,
    PinPolicy,
    Presence,
    Purpose,
    StorageLevel,
    Transport,
)
from tests.support.agent_parts import CODE, AgentParts
from tests.support.fake_order import RSA_KEYS
from tests.support.fake_portal import FakePortal
from tests.support.order_ends import ended, nothing_left
from tests.support.processes import wait_until

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


# --- the terminal on which a code came


@pytest.fixture
def terminal() -> Iterator[int]:
    master, theirs = os.openpty()
    yield theirs
    os.close(theirs)
    os.close(master)


def open_copies(terminal: int) -> int:
    """How many descriptors of a terminal this process has."""
    name, copies = os.readlink(f"/proc/self/fd/{terminal}"), 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            copies += os.readlink(entry) == name
        except FileNotFoundError:  # the listing's own
            continue
    return copies


@pytest.mark.parametrize(
    "code",
    [
        "portal_unknown",
        "code_used",
        "no_display",
        "user_cancelled",
        "finished",
    ],
)
@pytest.mark.parametrize("transport", [Transport.LINK, Transport.TYPED])
async def test_no_descriptor_of_a_terminal_stays_open_after_the_end(
    agent: AgentParts, portal: FakePortal, terminal: int, code: str, transport: Transport
) -> None:
    name = portal.portal
    match code:
        case "portal_unknown":
            name = "other.test"
        case "code_used":
            portal.faults.claim = InlayError(code)
        case "no_display":
            agent.windows.refuse = NoDisplay()
        case "user_cancelled":
            agent.windows.answer = UserCancelled("consent")
        case _:
            pass
    submission = Submission(name, CODE, transport, UserEnvironment({}, terminal))
    outcome = "finished"
    try:
        order = agent.desk.submit(submission)
        assert open_copies(terminal) == 2
        await order.wait()
    except InlayError as error:
        outcome = error.code
    assert outcome == code
    await asyncio.to_thread(wait_until, lambda: open_copies(terminal) == 1, "no copy of the terminal")

"""The orders *change PIN* and *delete virtual card*: refused, disturbed, cut off, then the way they should go."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.ports import UserCancelled
from agent.vsc import personalise
from protocol.errors import InlayError
from protocol.messages import (
    Binding,
    ChangePin,
    DeleteVirtualCard,
    OrderState,
    PinPolicy,
    Receipt,
)
from tests.support.agent_parts import OTHER_CODE, AgentParts, running_agent
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import PIN, FakeWindow
from tests.support.processes import wait_until

NEW, WRONG = b"k7mZ42", b"000000"
LAST_CODE = "0123456789abcdefghijkl"


@pytest.fixture
async def card(agent: AgentParts, portal: FakePortal) -> str:
    """A card that this portal has ordered; its file's name. Further orders need no number."""
    portal.keys = [AUTHENTICATION]
    await agent.submit(portal).wait()
    portal.binding = Binding.NONE
    (known,) = await agent.care.known()
    assert known.guid is not None
    portal.operation = ChangePin(card="card-1", guid=known.guid, label="Card", pin_policy=PinPolicy())
    return known.card


@pytest.fixture
async def guid(agent: AgentParts, card: str) -> str:
    return (await agent.care.standing(card)).facts.guid


async def order(agent: AgentParts, portal: FakePortal, code: str = OTHER_CODE) -> str:
    """Carry an order out; the code of its end."""
    try:
        async with asyncio.timeout(20):
            await agent.submit(portal, code).wait()
    except InlayError as error:
        return error.code
    return "finished"


async def has_pin(agent: AgentParts, card: str, pin: bytes) -> bool:
    def signs(found: Any) -> bool:
        try:
            return bool(personalise.sign(found, 0x9A, b"text", bytearray(pin)))
        except personalise.CardRefused:
            return False

    return await agent.cards.use(card, signs)


def all_wiped(window: FakeWindow) -> bool:
    secrets = [secret for given in window.given for secret in (given.pin, given.known) if secret is not None]
    return bool(secrets) and not any(any(secret) for secret in secrets)


def interrupted(agent: AgentParts) -> bool:
    active = agent.desk._active
    return active is not None and active.run is not None and active.run._interruption.done()


def last_window(agent: AgentParts) -> FakeWindow:
    return agent.windows.opened[-1]


# --- change PIN: refused


async def test_another_computers_card_is_refused_by_its_name(
    agent: AgentParts, portal: FakePortal, card: str
) -> None:
    portal.operation = ChangePin(card="card-2", guid="ab" * 16, label="Card", pin_policy=PinPolicy())
    assert await order(agent, portal) == "card_elsewhere"
    at = await portal.orders[OTHER_CODE].until(lambda item: item.undone is not None)
    assert at.undone is not None
    assert at.undone.error == "card_elsewhere"
    assert at.undone.fields == {"guid": "ab" * 16}
    assert last_window(agent).asked == []


@pytest.mark.parametrize("operation", ["change", "delete"])
async def test_a_portal_touches_only_the_cards_that_it_has_ordered(
    agent: AgentParts, portal: FakePortal, card: str, guid: str, operation: str
) -> None:
    row = agent.journal.get().cards()[card]
    agent.journal.get().add_card(row._replace(portal="other.test"))
    if operation == "delete":
        portal.operation = DeleteVirtualCard(card="card-1", guid=guid, label="Card")
    assert await order(agent, portal) == "card_of_other_portal"
    assert last_window(agent).asked == []
    assert len(agent.card_files()) == 1


async def test_a_wrong_pin_is_asked_again_in_the_orders_window_and_a_blocked_one_ends_the_order(
    agent: AgentParts, portal: FakePortal, card: str
) -> None:
    agent.windows.answers = [(WRONG, NEW), (WRONG, NEW), (PIN, NEW)]
    assert await order(agent, portal) == "finished"
    warnings = [prompt.warning or "" for prompt in last_window(agent).asked]
    assert [word in text for word, text in zip(("", "2 tries", "last try"), warnings, strict=True)] == [
        True
    ] * 3
    assert await has_pin(agent, card, NEW)
    agent.windows.answers = [(WRONG, PIN)] * 3
    assert await order(agent, portal, LAST_CODE) == "pin_blocked"
    assert last_window(agent).error is not None
    at = await portal.orders[LAST_CODE].until(lambda item: item.undone is not None)
    assert at.undone is not None
    assert at.undone.error == "pin_blocked"


async def test_cancelled_or_undone_at_the_portal_before_the_change_the_old_pin_stays(
    agent: AgentParts, portal: FakePortal, card: str
) -> None:
    agent.windows.answers = [UserCancelled("consent")]
    assert await order(agent, portal) == "user_cancelled"
    agent.windows.answers = [(PIN, NEW)]
    portal.number_given = False
    ending = asyncio.create_task(order(agent, portal, LAST_CODE))
    at = await (await portal.claimed(LAST_CODE)).until(lambda item: item.consented is not None)
    await portal.undo(at)
    assert await ending == "cancelled_at_portal"
    assert await has_pin(agent, card, PIN)
    assert all_wiped(last_window(agent))


async def test_ended_in_the_moment_of_the_change_the_person_is_told_which_pin_it_is(
    agent: AgentParts, portal: FakePortal, card: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.windows.answers = [(PIN, NEW)]
    change = agent.care.change_pin

    async def change_then_undo(*arguments: Any) -> None:
        await change(*arguments)
        at = portal.orders[OTHER_CODE]
        await portal.undo(at)
        await asyncio.to_thread(wait_until, lambda: interrupted(agent), "the agent to hear of it")

    monkeypatch.setattr(agent.care, "change_pin", change_then_undo)
    assert await order(agent, portal) == "pin_changed_anyway"
    assert last_window(agent).error is not None
    monkeypatch.undo()
    assert await has_pin(agent, card, NEW)


# --- change PIN: cut off


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_after_a_cut_at_the_point_of_no_return_the_order_ends_as_the_card_stands(
    agent: AgentParts,
    portal: FakePortal,
    card: str,
    tmp_path: Path,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cut before the card took the PIN: undone, the old one. Behind it, before the receipt: finished, the new one."""
    agent.windows.answers = [(PIN, NEW)]
    cut = asyncio.Event()

    async def cut_off(*arguments: Any) -> None:
        if moment == "after":
            await change(*arguments)
        cut.set()
        await asyncio.Event().wait()

    change = agent.care.change_pin
    monkeypatch.setattr(agent.care, "change_pin", cut_off)
    agent.submit(portal, OTHER_CODE)
    async with asyncio.timeout(20):
        await cut.wait()
    journal = agent.journal.get()
    for task in agent.desk._tasks:  # as a kill leaves it: nothing runs on, nothing is written
        task.cancel("killed")
    monkeypatch.setattr(journal, "end", _nothing)
    monkeypatch.setattr(journal, "store_sent", _nothing)
    await portal.cut()
    async with running_agent(tmp_path / "home") as restarted:
        await restarted.desk.resume()
        wanted = OrderState.FINISHED if moment == "after" else OrderState.UNDONE
        await portal.orders[OTHER_CODE].until(lambda at: at.state is wanted)
        assert await has_pin(restarted, card, NEW if moment == "after" else PIN)


async def test_an_agent_that_is_ended_in_the_middle_of_the_change_ends_it_and_its_receipt_first(
    agent: AgentParts, portal: FakePortal, card: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.windows.answers = [(PIN, NEW)]
    change, begun, go_on = agent.care.change_pin, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any) -> None:
        begun.set()
        await go_on.wait()
        await change(*arguments)

    monkeypatch.setattr(agent.care, "change_pin", slow)
    agent.submit(portal, OTHER_CODE)
    async with asyncio.timeout(20):
        await begun.wait()
        ending = asyncio.create_task(agent.desk.close())
        await asyncio.sleep(0)
        go_on.set()
        await ending
    async with running_agent(tmp_path / "home") as restarted:
        await restarted.desk.resume()
        await portal.orders[OTHER_CODE].until(lambda at: at.state is OrderState.FINISHED)
        assert await has_pin(restarted, card, NEW)


def _nothing(*_arguments: object) -> None:
    return


# --- change PIN: to the end


async def test_the_pin_is_changed_and_the_receipt_names_card_and_file(
    agent: AgentParts, portal: FakePortal, card: str, guid: str
) -> None:
    agent.windows.answers = [(PIN, NEW)]
    assert await order(agent, portal) == "finished"
    window, at = last_window(agent), portal.orders[OTHER_CODE]
    (prompt,) = window.asked
    assert prompt.origin == portal.origin
    assert prompt.account == "alex@example.org (Alex Example)"
    assert prompt.card is not None
    assert prompt.known is not None
    assert window.done is not None
    assert at.receipt == Receipt(
        guid=guid,
        generation=(await agent.care.standing(card)).facts.generation,
        storage=at.receipt.storage,  # type: ignore[union-attr]
    )
    assert await has_pin(agent, card, NEW)
    assert PIN not in agent.everything_written()
    assert NEW not in agent.everything_written()


async def test_the_number_binds_this_order_too(agent: AgentParts, portal: FakePortal, card: str) -> None:
    portal.binding = Binding.NUMBER
    agent.windows.answers = [(PIN, NEW)]
    assert await order(agent, portal) == "finished"
    consented = portal.orders[OTHER_CODE].consented
    assert consented is not None
    assert last_window(agent).number == consented.number
    assert consented.storage is None


# --- delete


async def test_a_card_is_deleted_only_once_the_portal_has_confirmed(
    agent: AgentParts, portal: FakePortal, card: str, guid: str
) -> None:
    portal.operation = DeleteVirtualCard(card="card-1", guid=guid, label="Card")
    portal.faults.silent = {"receipt"}
    agent.windows.answers = [(None, None)]
    agent.submit(portal, OTHER_CODE)
    at = await (await portal.claimed(OTHER_CODE)).until(lambda item: item.receipt is not None)
    assert len(agent.card_files()) == 1
    assert await has_pin(agent, card, PIN)
    await portal.say(at, portal._react(at, at.receipt))  # type: ignore[arg-type]
    await last_window(agent).until("done")
    assert agent.card_files() == []
    (prompt,) = last_window(agent).asked
    assert prompt.typed == "delete"
    assert any(line.startswith("Lost: Authentication certificate") for line in prompt.consequences)


async def test_undone_before_or_after_the_receipt_the_card_stays(
    agent: AgentParts, portal: FakePortal, card: str, guid: str
) -> None:
    portal.operation = DeleteVirtualCard(card="card-1", guid=guid, label="Card")
    agent.windows.answers = [UserCancelled("consent")]
    assert await order(agent, portal) == "user_cancelled"
    portal.faults.silent = {"receipt"}
    agent.windows.answers = [(None, None)]
    ending = asyncio.create_task(order(agent, portal, LAST_CODE))
    at = await (await portal.claimed(LAST_CODE)).until(lambda item: item.receipt is not None)
    await portal.undo(at)
    assert await ending == "cancelled_at_portal"
    assert await has_pin(agent, card, PIN)


async def test_a_deletion_that_the_disk_refuses_is_made_up_for_at_the_next_start(
    agent: AgentParts,
    portal: FakePortal,
    card: str,
    guid: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    portal.operation = DeleteVirtualCard(card="card-1", guid=guid, label="Card")
    agent.windows.answers = [(None, None)]

    def refuse(*_arguments: object, **_named: object) -> None:
        raise OSError(30, "read-only")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.unlink", refuse)
        assert await order(agent, portal) == "card_write_failed"
    assert len(agent.card_files()) == 1
    async with running_agent(tmp_path / "home") as restarted:
        await restarted.desk.resume()
        await asyncio.to_thread(wait_until, lambda: not restarted.card_files(), "the card to be gone")
        assert await restarted.care.known() == []

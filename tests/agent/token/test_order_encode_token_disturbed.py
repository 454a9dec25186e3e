"""*Encode card* by the driver *pkcs11* disturbed: pulled out, killed, ended before and after its point of no return."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from agent.pcsc.pkcs11_process import Process
from agent.ports import UserCancelled
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts, running_agent
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import ENCRYPTION, kept, order, undone, window_of
from tests.support.token_orders import (
    NEW,
    certificates,
    encode,
    encode_anew,
    encoded,
    objects,
)
from tests.support.token_readers import PIN, TokenReaders

PAST_CONSENT = (None, None)


# --- pulled out, killed


@pytest.mark.parametrize(
    ("function", "what"),
    [
        ("C_GenerateKeyPair", "pull"),
        ("C_GenerateKeyPair", "lost"),
        ("C_Sign", "lost"),
        ("C_CreateObject", "lost"),
        ("C_DestroyObject", "lost"),
    ],
)
async def test_pulled_out_it_is_waited_for_and_the_work_goes_on(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str, function: str, what: str
) -> None:
    before = await encoded(agent, portal, serial, AUTHENTICATION)
    encode(portal, serial, AUTHENTICATION, ENCRYPTION)
    agent.windows.answers = [PAST_CONSENT, (PIN, None)]
    readers.plan(function, what)
    ending = asyncio.create_task(order(agent, portal))
    await (await portal.claimed(CODE)).until(lambda at: at.consented is not None)
    window = agent.windows.opened[-1]
    await window.until_said("Put the card “Card 7” back")
    readers.put()
    assert await ending == "finished"
    after = await certificates()
    assert after.keys() == {"9A", "9D"}
    assert after["9A"] != before["9A"]


@pytest.mark.parametrize("anew", [False, True], ids=["beside the old", "erased"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_with_the_module_killed_once_at_each_of_its_calls_it_comes_to_its_end(
    agent: AgentParts,
    portal: FakePortal,
    readers: TokenReaders,
    serial: str,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    anew: bool,
) -> None:
    """All calls but those that say a PIN or PUK for the first time: those are nobody's to repeat."""
    before = await encoded(agent, portal, serial, AUTHENTICATION)
    call, hit = Process.call, set[tuple[str, str]]()

    async def disturbed(self: Process, operation: str, **arguments: Any) -> Any:
        at = (operation, str(arguments.get("key")))
        kills = operation not in {"tokens", "open", "login"} and at not in hit
        hit.add(at)
        if kills and moment == "before":
            await kill(self)
        answer = await call(self, operation, **arguments)
        if kills and moment == "after":
            await kill(self)
        return answer

    (encode_anew if anew else encode)(portal, serial, AUTHENTICATION, ENCRYPTION)
    agent.windows.answers = [(None, NEW)] if anew else [PAST_CONSENT, (PIN, None)]
    with monkeypatch.context() as patch:
        patch.setattr(Process, "call", disturbed)
        assert await order(agent, portal) == "finished"
    assert {operation for operation, _ in hit} >= {"generate", "import_key", "write_certificate", "sign"}
    after = await certificates(NEW if anew else PIN)
    assert after.keys() == {"9A", "9D"}
    assert after["9A"] != before["9A"]
    assert portal.orders[CODE].changing == 1


async def kill(process: Process) -> None:
    child = process._child
    if child is not None and child.returncode is None:
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()


# --- the point of no return


async def test_an_order_that_ends_before_it_takes_back_what_it_has_put_on_the_card(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    before = await encoded(agent, portal, serial, AUTHENTICATION, SIGNATURE)
    portal.faults.ca = lambda _der: portal.ca.foreign_certificate()
    encode(portal, serial, kept(SIGNATURE), AUTHENTICATION, ENCRYPTION)
    agent.windows.answers = [PAST_CONSENT, (PIN, None)]
    assert await order(agent, portal) == "card_check_failed"
    assert (await undone(portal)).changing == 0
    assert await certificates() == before
    portal.faults.ca, portal.faults.silent = None, {"requests"}
    encode(portal, serial, AUTHENTICATION)
    ending = asyncio.create_task(order(agent, portal, OTHER_CODE))
    at = await (await portal.claimed(OTHER_CODE)).until(lambda item: item.requests is not None)
    await portal.undo(at)
    assert await ending == "cancelled_at_portal"
    assert await certificates() == before


async def test_old_keys_are_there_until_the_portal_has_it_in_writing_that_they_go(
    agent: AgentParts,
    portal: FakePortal,
    readers: TokenReaders,
    serial: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await encoded(agent, portal, serial, AUTHENTICATION)
    call, seen = Process.call, list[tuple[str, int, bool]]()

    async def noting(self: Process, operation: str, **arguments: Any) -> Any:
        answer = await call(self, operation, **arguments)
        at = portal.orders[CODE]
        if operation in {"delete", "delete_certificates"} and answer:
            seen.append((operation, at.changing, at.requests is not None))
        return answer

    encode(portal, serial, AUTHENTICATION)
    agent.windows.answers = [PAST_CONSENT, (PIN, None)]
    with monkeypatch.context() as patch:
        patch.setattr(Process, "call", noting)
        assert await order(agent, portal) == "finished"
    assert seen == [("delete", 1, True)]


async def test_an_agent_that_is_ended_before_it_leaves_what_the_next_order_removes(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str, tmp_path: Path
) -> None:
    before = await encoded(agent, portal, serial, AUTHENTICATION, SIGNATURE)
    portal.faults.silent = {"requests"}
    encode(portal, serial, AUTHENTICATION)
    agent.windows.answers = [PAST_CONSENT, (PIN, None)]
    agent.submit(portal)
    await (await portal.claimed(CODE)).until(lambda item: item.requests is not None)
    await agent.desk.close()
    await portal.cut()
    assert len(await objects()) == 6 + 2
    portal.faults.silent = set()
    async with running_agent(tmp_path / "home", readers) as restarted:
        await restarted.desk.resume()
        at = await undone(portal)
        assert at.undone is not None
        assert (at.undone.error, at.changing) == ("order_interrupted", 0)
        encode(portal, serial, kept(AUTHENTICATION))
        restarted.windows.answers = [PAST_CONSENT, (PIN, None)]
        assert await order(restarted, portal, OTHER_CODE) == "finished"
    after = await certificates()
    assert after["9C"] == before["9C"]
    assert after["9A"] != before["9A"]


async def test_ended_after_it_the_person_is_told_that_the_card_is_half_done_and_a_fresh_order_finishes_it(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    await encoded(agent, portal, serial, AUTHENTICATION)
    portal.faults.silent = {"requests"}
    encode_anew(portal, serial, AUTHENTICATION)
    agent.windows.answers = [(None, NEW)]
    ending = asyncio.create_task(order(agent, portal))
    at = await (await portal.claimed(CODE)).until(lambda item: item.requests is not None)
    await portal.undo(at)
    assert await ending == "cancelled_at_portal"
    error = window_of(agent).error
    assert error is not None
    assert "half done" in error.next_step
    assert (await undone(portal)).changing == 1
    portal.faults.silent = set()
    assert await order(agent, portal, OTHER_CODE) == "finished"
    assert (await certificates(NEW)).keys() == {"9A"}


async def test_closed_by_the_person_nothing_is_changed(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    encode(portal, serial, AUTHENTICATION)
    agent.windows.answers = [UserCancelled("consent")]
    assert await order(agent, portal) == "user_cancelled"
    assert readers.looks == 0

"""*Encode card* by the driver *pkcs11*, with SoftHSM 2: refused, a module that fails, then as it should go."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.pcsc.pkcs11_process import Process
from protocol.messages import (
    Algorithm,
    CardStep,
    KeyOrder,
    KeySource,
    ManagementKey,
    PinEntry,
    PinPolicy,
    Purpose,
)
from tests.support import token_readers
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import kept, order, undone, window_of
from tests.support.token_orders import (
    NEW,
    WRONG,
    certificates,
    code_number,
    encode,
    encode_anew,
    encoded,
    objects,
)
from tests.support.token_readers import PIN, TokenReaders

RSA = [
    KeyOrder("9A", Purpose.AUTHENTICATION, Algorithm.RSA_2048, KeySource.GENERATE, "CN=Alex Example"),
    KeyOrder("9D", Purpose.ENCRYPTION, Algorithm.RSA_2048, KeySource.IMPORT, "CN=Alex Example"),
]
PAST_CONSENT = (None, None)


# --- refused before anything is asked


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"steps": [CardStep.BLOCK]}, "encoding_unsupported"),
        ({"steps": [CardStep.SET_LABEL]}, "encoding_unsupported"),
        ({"steps": [CardStep.INITIALISE]}, "encoding_unsupported"),
        (
            {"steps": [CardStep.SET_PIN], "pin": PinEntry(kind="new", where="pad", policy=PinPolicy())},
            "encoding_unsupported",
        ),
        ({"pin": PinEntry(kind="none")}, "encoding_unsupported"),
        ({"management": ManagementKey()}, "order_malformed"),
        ({"keys": [AUTHENTICATION, AUTHENTICATION]}, "order_malformed"),
    ],
)
async def test_an_order_that_nobody_can_carry_out_asks_nobody(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, changes: dict[str, Any], code: str
) -> None:
    encode(portal, "0123", AUTHENTICATION, **changes)
    assert await order(agent, portal) == code
    assert agent.windows.opened == []
    assert readers.looks == 0


async def test_a_key_can_not_be_kept_on_a_card_that_is_erased(agent: AgentParts, portal: FakePortal) -> None:
    encode_anew(portal, "0123", kept(AUTHENTICATION))
    assert await order(agent, portal) == "encoding_unsupported"


# --- the module


async def test_a_module_that_is_not_there_is_named(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    readers.module = Path("/nowhere/vendor.so")
    encode(portal, "0123", AUTHENTICATION)
    agent.windows.answers = [PAST_CONSENT]
    assert await order(agent, portal) == "pkcs11_module_missing"
    error = window_of(agent).error
    assert error is not None
    assert "vendor.so" in error.why
    assert "card map" in error.next_step


async def test_a_card_without_a_module_is_said_with_how_to_add_it(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    readers.module = None
    encode(portal, "0123", AUTHENTICATION)
    agent.windows.answers = [PAST_CONSENT]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("inlay doctor")
    await window.close_by_person()
    assert await ending == "user_cancelled"


async def test_a_module_that_hangs_is_ended_at_its_deadline_and_named(
    agent: AgentParts,
    portal: FakePortal,
    readers: TokenReaders,
    serial: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.pcsc.pkcs11.KEY_SECONDS", 0.5)
    encode(portal, serial, AUTHENTICATION)
    agent.windows.answers = [PAST_CONSENT, (PIN, None)]
    readers.plan("C_GenerateKeyPair", "hang")
    assert await order(agent, portal) == "pkcs11_module_hung"
    assert (await undone(portal)).changing == 0
    assert await objects() == []


async def test_a_module_that_crashes_again_and_again_is_given_up_by_its_name(
    agent: AgentParts,
    portal: FakePortal,
    readers: TokenReaders,
    serial: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call, crashes = Process.call, 0

    async def crashing(self: Process, operation: str, **arguments: Any) -> Any:
        nonlocal crashes
        if operation == "generate":
            crashes += 1
            readers.plan("C_GenerateKeyPair", "crash")
        return await call(self, operation, **arguments)

    monkeypatch.setattr(Process, "call", crashing)
    encode(portal, serial, AUTHENTICATION)
    agent.windows.answers = [PAST_CONSENT, (PIN, None)]
    assert await order(agent, portal) == "pkcs11_module_crashed"
    assert crashes == 4
    assert (await undone(portal)).changing == 0


# --- the card


async def test_another_card_is_refused_and_the_right_one_waited_for(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    encode(portal, "0123456789abcdef", AUTHENTICATION)
    agent.windows.answers = [PAST_CONSENT]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("another one")
    readers.take()
    await window.until_said("Put the card “Card 7” in the reader")
    await window.close_by_person()
    assert await ending == "user_cancelled"
    assert await objects() == []


async def test_a_card_that_was_never_initialised_is_said_to_be_so(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    encode(portal, "0123", AUTHENTICATION)
    agent.windows.answers = [PAST_CONSENT]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("never been initialised")
    await window.close_by_person()
    assert await ending == "user_cancelled"


async def test_a_card_that_is_full_is_as_it_was(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    before = await encoded(agent, portal, serial, AUTHENTICATION)
    encode(portal, serial, AUTHENTICATION, SIGNATURE)
    agent.windows.answers = [PAST_CONSENT, (PIN, None)]
    readers.plan("C_CreateObject", "full")  # the first certificate; two new keys are there by then
    assert await order(agent, portal) == "card_full"
    assert (await undone(portal, CODE)).changing == 0
    assert await certificates() == before


@pytest.mark.parametrize(("flag", "code"), [(0x2, "pkcs11_write_protected"), (0x40000, "card_pin_blocked")])
async def test_a_card_that_says_beforehand_that_it_can_not_is_believed(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str, flag: int, code: str
) -> None:
    readers.flags(flag)
    encode(portal, serial, AUTHENTICATION)
    agent.windows.answers = [PAST_CONSENT]
    assert await order(agent, portal) == code
    assert len(window_of(agent).asked) == 1


# --- PIN and PUK


async def test_a_wrong_pin_is_asked_again_and_the_last_try_is_announced(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    encode(portal, serial, AUTHENTICATION)
    agent.windows.answers = [PAST_CONSENT, (WRONG, None), (PIN, None)]
    readers.flags(0x20000)
    assert await order(agent, portal) == "finished"
    _, first, second = [prompt.warning or "" for prompt in window_of(agent).asked]
    assert "last try" in first
    assert "The PIN is wrong" in second
    secrets = [given.known for given in window_of(agent).given]
    assert not any(any(secret) for secret in secrets if secret is not None)
    assert PIN not in agent.everything_written()


async def test_a_pin_whose_answer_never_came_is_for_the_person_to_type_again(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    encode(portal, serial, AUTHENTICATION)
    agent.windows.answers = [PAST_CONSENT, (PIN, None), (PIN, None)]
    readers.plan("C_Login", "after")
    assert await order(agent, portal) == "finished"
    assert "a try may have been spent" in str(window_of(agent).asked[2].warning)


async def test_a_wrong_puk_ends_it_before_the_card_is_erased(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    before = await encoded(agent, portal, serial, AUTHENTICATION)
    portal.puk = WRONG
    encode_anew(portal, serial, AUTHENTICATION)
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "pkcs11_puk_wrong"
    assert (await undone(portal)).changing == 0
    assert await certificates() == before


@pytest.mark.parametrize("moment", ["after", "lost"])
async def test_a_puk_whose_answer_never_came_is_not_sent_again(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str, moment: str
) -> None:
    encode_anew(portal, serial, AUTHENTICATION)
    agent.windows.answers = [(None, NEW)]
    readers.plan("C_Login", moment)
    assert await order(agent, portal) == "pkcs11_unanswered"
    assert (await undone(portal)).changing == 0
    readers.put()
    assert await objects() == []


async def test_a_puk_that_is_blocked_is_not_tried(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    readers.flags(0x400000)
    readers.plan("C_Login", "crash")
    encode_anew(portal, serial, AUTHENTICATION)
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "card_puk_blocked"
    assert readers.is_planned  # nobody has logged in
    assert (await undone(portal)).changing == 0


async def test_a_pin_that_the_card_can_not_take_ends_it_before_it_is_erased(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    readers.flags(0, shortest=len(NEW) + 1)
    encode_anew(portal, serial, AUTHENTICATION)
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "card_pin_form"
    assert (await undone(portal)).changing == 0


# --- the way it should go


async def test_a_first_encoding_and_two_further_ones_as_another_program_sees_them(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    encode_anew(portal, serial, *RSA, SIGNATURE)
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal) == "finished", portal.orders[CODE].undone
    at = portal.orders[CODE]
    assert at.requests is not None
    assert (at.requests.token, at.requests.serial) == (serial, None)
    assert window_of(agent).details is not None
    first = await certificates(NEW)
    assert first.keys() == {"9A", "9D", "9C"}
    tokens = token_readers.pkcs11_tool("--list-token-slots", pin=None)
    assert "token label        : Card 7" in tokens
    listed = token_readers.pkcs11_tool("--list-objects", pin=NEW)
    assert listed.count("Private Key Object") == listed.count("Certificate Object") == 3
    assert all(word in listed for word in ("authentication", "signature", "encryption", "never extractable"))

    encode(portal, serial, kept(SIGNATURE), RSA[0])
    agent.windows.answers = [PAST_CONSENT, (NEW, None)]
    assert await order(agent, portal, OTHER_CODE) == "finished", portal.orders[OTHER_CODE].undone
    second = await certificates(NEW)
    assert second["9D"] == first["9D"]
    assert (second["9A"], second["9C"]) != (first["9A"], first["9C"])
    encode(portal, serial, SIGNATURE)
    assert await order(agent, portal, code_number(3)) == "finished"
    listed = token_readers.pkcs11_tool("--list-objects", pin=NEW)
    assert listed.count("Private Key Object") == listed.count("Certificate Object") == 3
    assert NEW not in agent.everything_written()

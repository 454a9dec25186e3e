"""Earlier encryption keys on a token, with SoftHSM 2: none taken, not all, torn out; beside the others, and removed."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent import token_keys
from agent.pcsc.pkcs11 import Driver
from agent.pcsc.pkcs11_process import Process
from agent.ports import UserCancelled
from protocol.errors import InlayError
from protocol.messages import Algorithm, CardStep, KeyOrder, KeySource, PinEntry, PinPolicy, Purpose
from tests.support import softhsm
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts, running_agent
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import ENCRYPTION, order, undone, window_of
from tests.support.token_orders import NEW, code_number, encode, objects
from tests.support.token_readers import PIN, TokenReaders

PAST_CONSENT = (None, None)
EARLIER = KeyOrder("82", Purpose.ENCRYPTION, Algorithm.P_256, KeySource.IMPORT, "CN=Alex", optional=True)
OLDER = msgspec.structs.replace(EARLIER, slot="83", algorithm=Algorithm.RSA_2048)
INCONSISTENT = 0xD1
SETS_PIN: dict[str, Any] = {
    "steps": [CardStep.SET_PIN],
    "pin": PinEntry(kind="new", policy=PinPolicy()),
}


async def encoded(
    agent: AgentParts, portal: FakePortal, serial: str, *keys: KeyOrder, code: str = CODE
) -> None:
    encode(portal, serial, *keys)
    agent.windows.answers = [PAST_CONSENT, (PIN, None)]
    assert await order(agent, portal, code) == "finished", portal.orders[code].undone


async def on_card(pin: bytes = PIN) -> Counter[str]:
    """How many objects there are for each key reference: three for each key."""
    return Counter(token_keys.slot_of(item.key) or "?" for item in await objects(pin))


def proved(portal: FakePortal, code: str = CODE) -> list[str]:
    receipt = portal.orders[code].receipt
    assert receipt is not None
    return [proof.slot for proof in receipt.proofs]


def noted(agent: AgentParts) -> str:
    details = window_of(agent).details
    assert details is not None
    return " ".join(details.notes)


# --- refused, not taken


@pytest.mark.parametrize("source", [KeySource.GENERATE, KeySource.KEEP])
async def test_what_no_card_could_go_on_without_asks_nobody(
    agent: AgentParts, portal: FakePortal, serial: str, source: KeySource
) -> None:
    encode(portal, serial, AUTHENTICATION, msgspec.structs.replace(EARLIER, source=source))
    assert await order(agent, portal) == "order_malformed"
    assert agent.windows.opened == []


async def test_closed_at_consent_nothing_of_them_is_sent(
    agent: AgentParts, portal: FakePortal, serial: str
) -> None:
    encode(portal, serial, AUTHENTICATION, EARLIER)
    agent.windows.answers = [UserCancelled("consent")]
    assert await order(agent, portal) == "user_cancelled"
    assert (await undone(portal)).requests is None
    assert await objects() == []


async def test_a_module_that_takes_no_keys_goes_on_without_them(
    agent: AgentParts,
    portal: FakePortal,
    readers: TokenReaders,
    serial: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.pcsc.pkcs11_tokens.UNWRAPPING", ())
    readers.takes_no_private_key(INCONSISTENT)
    await encoded(agent, portal, serial, AUTHENTICATION, EARLIER, OLDER)
    assert proved(portal) == ["9A"]
    assert await on_card() == {"9A": 3}
    assert "0 of 2" in noted(agent)


async def test_a_key_of_the_order_that_it_has_to_take_ends_it_by_its_name(
    agent: AgentParts,
    portal: FakePortal,
    readers: TokenReaders,
    serial: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.pcsc.pkcs11_tokens.UNWRAPPING", ())
    readers.takes_no_private_key(INCONSISTENT)
    encode(portal, serial, AUTHENTICATION, ENCRYPTION)
    agent.windows.answers = [PAST_CONSENT, (PIN, None)]
    assert await order(agent, portal) == "card_import_missing"
    assert (await undone(portal)).changing == 0
    assert await objects() == []


@pytest.mark.parametrize("part", ["import_key", "write_certificate"])
async def test_one_that_finds_no_room_leaves_nothing_and_the_others_are_there(
    agent: AgentParts,
    portal: FakePortal,
    readers: TokenReaders,
    serial: str,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
) -> None:
    call = Process.call

    async def filling(self: Process, operation: str, **arguments: Any) -> Any:
        if operation == part and str(arguments["key"]).startswith("83"):
            readers.plan("C_CreateObject", "full")
        return await call(self, operation, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Process, "call", filling)
        await encoded(agent, portal, serial, AUTHENTICATION, EARLIER, OLDER)
    assert proved(portal) == ["9A", "82"]
    assert await on_card() == {"9A": 3, "82": 3}
    assert "1 of 2" in noted(agent)


# --- disturbed


@pytest.mark.parametrize("what", ["pull", "lost"])
async def test_torn_out_while_they_are_written_the_same_card_goes_on(
    agent: AgentParts,
    portal: FakePortal,
    readers: TokenReaders,
    serial: str,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    call, torn = Process.call, list[str]()

    async def tearing(self: Process, operation: str, **arguments: Any) -> Any:
        if operation == "import_key" and not torn:
            torn.append(operation)
            readers.plan("C_CreateObject", what)
        return await call(self, operation, **arguments)

    encode(portal, serial, AUTHENTICATION, EARLIER, OLDER)
    agent.windows.answers = [PAST_CONSENT, (PIN, None)]
    with monkeypatch.context() as patch:
        patch.setattr(Process, "call", tearing)
        ending = asyncio.create_task(order(agent, portal))
        window = await agent.windows.first()
        await window.until_said("Put the card “Card 7” back")
        readers.put()
        assert await ending == "finished"
    assert await on_card() == {"9A": 3, "82": 3, "83": 3}


async def test_what_an_agent_that_was_stopped_has_left_goes_with_the_next_order(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str, tmp_path: Path
) -> None:
    encode(portal, serial, AUTHENTICATION, EARLIER)
    agent.windows.answers = [PAST_CONSENT, (PIN, None)]
    readers.plan("C_CreateObject", "pull")  # the certificate of 9A; earlier keys come after it
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("Put the card “Card 7” back")
    await agent.desk.close()
    ending.cancel()
    readers.put()
    async with running_agent(tmp_path / "home", readers) as restarted:
        await restarted.desk.resume()
        at = await undone(portal)
        assert at.undone is not None
        assert (at.undone.error, at.changing) == ("order_interrupted", 0)
        await leave_a_torn_key(serial)
        await encoded(restarted, portal, serial, AUTHENTICATION, code=OTHER_CODE)
    assert await on_card() == {"9A": 3}


async def leave_a_torn_key(serial: str) -> None:
    """A private key of an order that ended while it was imported, with no certificate."""
    driver = Driver(softhsm.MODULE)
    try:
        await driver.open(await driver.find(serial))
        await driver.verify(bytearray(PIN))
        await driver.generate(token_keys.new_id("84", "ended"), "earlier", "P-256", "decrypt")
    finally:
        await driver.close()


async def test_an_order_that_ends_takes_back_those_it_has_brought_and_no_others(
    agent: AgentParts, portal: FakePortal, serial: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made_keys(monkeypatch)
    await encoded(agent, portal, serial, AUTHENTICATION, EARLIER)
    before = await objects()
    made["82"], made["83"] = ec.generate_private_key(ec.SECP256R1()), made["82"]
    portal.faults.silent = {"receipt"}
    encode(portal, serial, AUTHENTICATION, EARLIER, msgspec.structs.replace(OLDER, algorithm=Algorithm.P_256))
    agent.windows.answers = [PAST_CONSENT, (PIN, None)]
    calls, call = list[str](), Process.call

    async def refusing(self: Process, operation: str, **arguments: Any) -> Any:
        calls.append(operation)
        if operation == "agree":
            raise InlayError("card_check_failed", slot="82")
        return await call(self, operation, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Process, "call", refusing)
        assert await order(agent, portal, OTHER_CODE) == "card_check_failed"
    assert (await undone(portal, OTHER_CODE)).changing == 0
    assert calls.count("import_key") == 1  # the other one was there
    assert await objects() == before


# --- as it should be


def made_keys(monkeypatch: pytest.MonkeyPatch) -> dict[str, ec.EllipticCurvePrivateKey]:
    """The keys that the portal's archive has, by the reference for which they go out."""
    made = {slot: ec.generate_private_key(ec.SECP256R1()) for slot in ("82", "83")}
    monkeypatch.setattr("tests.support.fake_issuing._make_key", lambda key: made[key.slot])
    return made


async def test_all_of_them_are_beside_the_current_ones_with_their_labels(
    agent: AgentParts, portal: FakePortal, serial: str
) -> None:
    await encoded(agent, portal, serial, AUTHENTICATION, SIGNATURE, ENCRYPTION, EARLIER, OLDER)
    assert proved(portal) == ["9A", "9C", "9D", "82", "83"]
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert all(proof.mac is not None for proof in receipt.proofs[2:])
    assert await on_card() == dict.fromkeys(("9A", "9C", "9D", "82", "83"), 3)
    assert {item.label for item in await objects() if item.key[0] == 0x82} == {"encryption, earlier"}
    assert "2 of 2" in noted(agent)
    prompt = window_of(agent).prompt
    assert prompt is not None
    assert any("2 earlier encryption keys" in line for line in prompt.consequences)


async def test_one_that_is_there_moves_on_by_a_place_and_is_not_imported_again(
    agent: AgentParts, portal: FakePortal, serial: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made_keys(monkeypatch)
    await encoded(agent, portal, serial, AUTHENTICATION, EARLIER)
    older = msgspec.structs.replace(OLDER, algorithm=Algorithm.P_256)
    for number in range(2):  # with the same keys again nothing is imported at all
        if number == 0:
            made["82"], made["83"] = ec.generate_private_key(ec.SECP256R1()), made["82"]
        calls, call = list[str](), Process.call

        async def noting(self: Process, operation: str, **arguments: Any) -> Any:
            calls.append(operation)  # noqa: B023  # of this round
            return await call(self, operation, **arguments)  # noqa: B023

        with monkeypatch.context() as patch:
            patch.setattr(Process, "call", noting)
            await encoded(agent, portal, serial, AUTHENTICATION, EARLIER, older, code=code_number(number))
        assert proved(portal, code_number(number)) == ["9A", "82", "83"]
        assert calls.count("import_key") == 1 - number
        assert sum(count for slot, count in (await on_card()).items() if slot != "9A") == 6


async def test_whoever_gets_the_card_next_gets_no_key_of_its_holder_before(
    agent: AgentParts, portal: FakePortal, serial: str
) -> None:
    await encoded(agent, portal, serial, AUTHENTICATION, SIGNATURE, EARLIER, OLDER)
    encode(portal, serial, AUTHENTICATION, **SETS_PIN, clear_retired=True, clear=["9A", "9C"])
    agent.windows.answers = [(None, NEW)]
    assert await order(agent, portal, OTHER_CODE) == "finished", portal.orders[OTHER_CODE].undone
    assert await on_card(NEW) == {"9A": 3}
    assert portal.orders[OTHER_CODE].changing == 1


async def test_without_being_told_so_earlier_keys_stay(
    agent: AgentParts, portal: FakePortal, serial: str
) -> None:
    await encoded(agent, portal, serial, AUTHENTICATION, EARLIER)
    await encoded(agent, portal, serial, AUTHENTICATION, code=OTHER_CODE)
    assert await on_card() == {"9A": 3, "82": 3}

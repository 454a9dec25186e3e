"""*Read card* by the driver *pkcs11*: what can't be told apart or read, then what a token tells without a try."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent import token_keys
from protocol.messages import CardReading, ReadCard
from protocol.tokens import token_guid
from tests.support import token_readers
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import ENCRYPTION, order
from tests.support.token_orders import certificates, encode, objects
from tests.support.token_readers import PIN, TokenReaders

PAST_CONSENT = (None, None)


@pytest.fixture
async def agent(agent: AgentParts, portal: FakePortal) -> AgentParts:
    agent.windows.answers = [PAST_CONSENT]
    return agent


async def read(agent: AgentParts, portal: FakePortal, code: str = CODE) -> CardReading:
    portal.operation = ReadCard(driver="pkcs11")
    agent.windows.answers = [PAST_CONSENT]
    assert await order(agent, portal, code) == "finished"
    receipt = portal.orders[code].receipt
    assert receipt is not None
    assert receipt.reading is not None
    assert receipt.guid == (receipt.reading.guid or "0" * 32)
    return receipt.reading


async def test_nobody_is_asked_for_a_module_that_is_not_there(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    readers.module = Path("/nowhere/vendor.so")
    portal.operation = ReadCard(driver="pkcs11")
    assert await order(agent, portal) == "pkcs11_module_missing"


async def test_of_several_cards_of_one_module_none_is_taken_for_the_other(
    agent: AgentParts, portal: FakePortal, serial: str
) -> None:
    token_readers.initialise("another")
    portal.operation = ReadCard(driver="pkcs11")
    assert await order(agent, portal) == "pkcs11_several_cards"
    assert portal.orders[CODE].receipt is None


async def test_a_piv_card_is_not_looked_for_through_a_module(
    agent: AgentParts, portal: FakePortal, serial: str
) -> None:
    portal.operation = ReadCard(driver="piv")
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until("card")
    await window.close_by_person()
    assert await ending == "user_cancelled"


@pytest.mark.parametrize("function", ["C_GetTokenInfo", "C_OpenSession", "C_FindObjectsInit"])
async def test_a_card_that_goes_while_it_is_read_is_read_when_it_is_there_again(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str, function: str
) -> None:
    readers.plan(function, "pull")
    portal.operation = ReadCard(driver="pkcs11")
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("Put the card “that is to be read” in the reader")
    readers.put()
    assert await ending == "finished"
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert receipt.guid == token_guid(serial)


@pytest.mark.parametrize(
    ("flags", "pin", "puk"),
    [(0, None, None), (0x10000, None, None), (0x20000, 1, None), (0x40000, 0, None), (0x600000, None, 0)],
)
async def test_of_its_tries_a_token_tells_the_last_and_none(
    agent: AgentParts,
    portal: FakePortal,
    readers: TokenReaders,
    serial: str,
    flags: int,
    pin: int | None,
    puk: int | None,
) -> None:
    readers.flags(flags)
    found = await read(agent, portal)
    assert (found.pin_tries, found.puk_tries) == (pin, puk)


async def test_a_blank_token_is_told_by_its_kind(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    found = await read(agent, portal)
    assert (found.kind, found.certificates) == ("Token", [])


async def test_what_was_put_on_it_is_told_and_nothing_is_changed(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    encode(portal, serial, AUTHENTICATION, ENCRYPTION)
    agent.windows.answers = [PAST_CONSENT, (PIN, None)]
    assert await order(agent, portal) == "finished"
    before, written = await objects(), await certificates()
    found = await read(agent, portal, OTHER_CODE)
    assert (found.guid, found.token, found.serial) == (token_guid(serial), serial, None)
    assert {item.slot: item.certificate for item in found.certificates} == written
    assert (found.omitted, set(written)) == (0, {"9A", "9D"})
    assert await objects() == before


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        (bytes.fromhex("9A") + bytes(7), "9A"),
        (bytes.fromhex("95") + bytes(7), "95"),
        (bytes.fromhex("9B") + bytes(7), None),
        (bytes.fromhex("96") + bytes(7), None),
        (bytes.fromhex("9A") + bytes(6), None),
        (b"", None),
        (b"\x01", "9A"),
        (b"\x05", None),
    ],
)
def test_an_id_stands_for_a_key_reference_or_for_none(key: bytes, slot: str | None) -> None:
    assert token_keys.slot_of(key) == slot

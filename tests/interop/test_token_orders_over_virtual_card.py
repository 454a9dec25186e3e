"""Orders by the driver *pkcs11* with OpenSC's module, over a virtual card in a real reader."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from agent import card_map
from agent.card_map import CardKind, CardMap
from agent.pcsc.pkcs11 import Driver
from agent.vsc.card import VirtualCard
from protocol import proofs
from protocol.messages import (
    Algorithm,
    Authenticate,
    Binding,
    BlockCard,
    ChangePin,
    ChangePuk,
    KeyOrder,
    PinPolicy,
    Sign,
)
from protocol.tokens import token_guid
from tests.agent.test_order_authenticate_sign import CHALLENGE, DIGEST, check
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts, PcscReadersOfATest, running_agent
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.pcscd import PrivatePcscd
from tests.support.physical_orders import kept, order, window_of
from tests.support.token_orders import encode
from tests.support.virtual_cards import EC_KEYS, PIN, PUK, RSA_KEYS, InReader, full_card, store_in

pytestmark = pytest.mark.interop

MODULE = Path("/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so")
RSA_AUTHENTICATION = msgspec.structs.replace(AUTHENTICATION, algorithm=Algorithm.RSA_2048)
NEW, WRONG = b"135790", b"999999"
_KIND = CardKind("PIV", "pkcs11", MODULE, None, b"", bytes.fromhex("A000000308"), frozenset(), "test")


@pytest.fixture(params=["rsa", "ec"])
async def inserted(
    request: pytest.FixtureRequest, pcscd: PrivatePcscd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[VirtualCard, str]]:
    """A card in a reader, and its token's serial number as OpenSC tells it."""
    monkeypatch.setattr(card_map, "load", lambda _machine: CardMap((_KIND,), ()))
    card = full_card(store_in(tmp_path), RSA_KEYS if request.param == "rsa" else EC_KEYS)
    with InReader(card, pcscd.vpcd_port):
        driver = Driver(MODULE)
        serial = (await driver.tokens())[0].serial
        await driver.close()
        yield card, serial


@pytest.fixture
async def agent(
    inserted: tuple[VirtualCard, str], tmp_path: Path, portal: FakePortal
) -> AsyncIterator[AgentParts]:
    async with running_agent(tmp_path / "home", PcscReadersOfATest()) as running:
        running.trust_portal(portal)
        portal.binding = Binding.NONE
        yield running


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (AUTHENTICATION, "pkcs11_makes_no_keys"),
        (RSA_AUTHENTICATION, "pkcs11_makes_no_keys"),
        (kept(AUTHENTICATION), "card_feature_missing"),
    ],
    ids=["a new key", "a new RSA key", "a certificate for the key that is there"],
)
async def test_what_the_module_can_not_do_leaves_the_card_as_it_is(
    agent: AgentParts, portal: FakePortal, inserted: tuple[VirtualCard, str], key: KeyOrder, code: str
) -> None:
    card, serial = inserted
    before = dataclasses.replace(card.details(), generation=0)
    encode(portal, serial, key)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal) == code
    assert portal.orders[CODE].changing == 0
    assert dataclasses.replace(card.details(), generation=0) == before


async def test_a_wrong_pin_costs_the_try_that_it_is_and_the_last_is_announced(
    agent: AgentParts, portal: FakePortal, inserted: tuple[VirtualCard, str]
) -> None:
    card, serial = inserted
    portal.operation = Authenticate(
        card="card-1", driver="pkcs11", guid=token_guid(serial), label="Card 7", challenge=CHALLENGE
    )
    agent.windows.answers = [(None, None), (WRONG, None), (WRONG, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    said = [str(prompt.warning) for prompt in window_of(agent).asked]
    assert ["last try" in text for text in said] == [False, False, False, True]
    assert card.details().pin_tries == 3
    at = portal.orders[CODE].receipt
    assert at is not None
    assert at.signature is not None
    message = proofs.authentication_input(portal.origin, CHALLENGE)
    check(at.signature, hashlib.sha256(message).digest())


async def test_a_changed_pin_is_the_one_that_signs(
    agent: AgentParts, portal: FakePortal, inserted: tuple[VirtualCard, str]
) -> None:
    _, serial = inserted
    guid = token_guid(serial)
    portal.operation = ChangePin(
        card="card-1", driver="pkcs11", guid=guid, label="Card 7", pin_policy=PinPolicy()
    )
    agent.windows.answers = [(None, None), (PIN, NEW)]
    assert await order(agent, portal) == "finished"
    portal.operation = Authenticate(
        card="card-1", driver="pkcs11", guid=guid, label="Card 7", challenge=CHALLENGE
    )
    agent.windows.answers = [(None, None), (NEW, None)]
    assert await order(agent, portal, OTHER_CODE) == "finished"


async def test_the_signature_key_gets_the_pin_before_each_use(
    agent: AgentParts, portal: FakePortal, inserted: tuple[VirtualCard, str]
) -> None:
    card, serial = inserted
    portal.operation = Sign(
        card="card-1",
        driver="pkcs11",
        guid=token_guid(serial),
        label="Card 7",
        document="A text",
        digest=DIGEST,
    )
    agent.windows.answers = [(None, None), (WRONG, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    at = portal.orders[CODE].receipt
    assert at is not None
    assert at.signature is not None
    check(at.signature, DIGEST)
    assert card.details().pin_tries == 3


async def test_a_card_whose_puk_the_module_takes_from_nobody_is_said_and_loses_no_try(
    agent: AgentParts, portal: FakePortal, inserted: tuple[VirtualCard, str]
) -> None:
    card, serial = inserted
    portal.puk, portal.new_puk = PUK, b"24681357"
    portal.operation = ChangePuk(card="card-1", driver="pkcs11", guid=token_guid(serial), label="Card 7")
    agent.windows.answers = [(None, None)]
    assert await order(agent, portal) == "pkcs11_no_officer"
    assert portal.orders[CODE].changing == 0
    assert (card.details().pin_tries, card.details().puk_tries) == (3, 3)


async def test_a_blocked_pin_is_6983_and_another_card_is_told_nothing(
    agent: AgentParts, portal: FakePortal, inserted: tuple[VirtualCard, str], pcscd: PrivatePcscd
) -> None:
    """OpenSC's module tells no officer, so the PUK stays: Yubico's tool sets a PIN by it afterwards."""
    card, serial = inserted
    portal.operation = BlockCard(
        card="card-1", driver="pkcs11", guid=token_guid("of another card"), label="Card 7"
    )
    portal.resume_within = 1
    agent.windows.answers = [(None, None)]
    assert await order(agent, portal) == "timeout"
    assert card.details().pin_tries == 3
    portal.operation = BlockCard(card="card-1", driver="pkcs11", guid=token_guid(serial), label="Card 7")
    portal.resume_within = 3600
    agent.windows.answers = [(None, None)]
    assert await order(agent, portal, OTHER_CODE) == "finished"
    assert (card.details().pin_tries, card.details().puk_tries) == (0, 3)
    tool = ("yubico-piv-tool", "-r", pcscd.readers[0], "-a")
    told = await asyncio.to_thread(pcscd.run, [*tool, "verify-pin", "-P", PIN.decode()])
    assert told.returncode != 0
    assert "blocked" in (told.stdout + told.stderr).lower()
    module = ["pkcs11-tool", "--module", str(MODULE), "--login", "--pin", PIN.decode(), "--list-objects"]
    told = await asyncio.to_thread(pcscd.run, module)
    assert "CKR_PIN_LOCKED" in told.stderr
    unblock = [*tool, "unblock-pin", "-P", PUK.decode(), "-N", "135790"]
    assert (await asyncio.to_thread(pcscd.run, unblock)).returncode == 0


@pytest.mark.parametrize(
    ("login", "key"),
    [
        (["--pin", PIN.decode()], "rsa:2048"),
        (["--login-type", "so", "--so-pin", PUK.decode()], "EC:prime256v1"),
    ],
)
async def test_nor_can_opensc_s_own_tool_make_a_key_by_its_module(
    inserted: tuple[VirtualCard, str], pcscd: PrivatePcscd, login: list[str], key: str
) -> None:
    card, _ = inserted
    before = dataclasses.replace(card.details(), generation=0)
    making = ["--keypairgen", "--key-type", key, "--id", "01"]
    tool = ["pkcs11-tool", "--module", str(MODULE), "--login", *login, *making]
    told = await asyncio.to_thread(pcscd.run, tool)
    assert told.returncode != 0
    assert "not supported" in told.stderr or "CKR_GENERAL_ERROR" in told.stderr
    assert dataclasses.replace(card.details(), generation=0) == before

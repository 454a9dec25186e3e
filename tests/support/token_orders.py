"""Orders for a card by the driver *pkcs11*, as tests have them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.pcsc.pkcs11 import Driver, Stored
from protocol.messages import Binding, CardStep, EncodeCard, KeyOrder, PinEntry, PinPolicy
from protocol.tokens import token_guid
from tests.support import softhsm
from tests.support.agent_parts import AgentParts, running_agent
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import order
from tests.support.token_readers import PIN, SO_PIN, TokenReaders

NEW, WRONG = b"135790", b"999999"


async def token_serial() -> str:
    """Serial number of the one token that is initialised."""
    driver = Driver(softhsm.MODULE)
    try:
        (serial,) = [token.serial for token in await driver.tokens() if token.initialised]
    finally:
        await driver.close()
    return serial


def officer_may(pin: bytes) -> bool:
    """Whether SoftHSM lets the security officer in by it, as OpenSC's tool says."""
    command = ["pkcs11-tool", "--module", str(softhsm.MODULE), "--login", "--login-type", "so"]
    command += ["--so-pin", pin.decode(), "--init-pin", "--new-pin", PIN.decode()]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


async def objects(pin: bytes = PIN) -> list[Stored]:
    """What is on the token."""
    driver = Driver(softhsm.MODULE)
    try:
        (token,) = [token for token in await driver.tokens() if token.initialised]
        await driver.open(token)
        await driver.verify(bytearray(pin))
        return sorted(await driver.objects(), key=lambda item: (item.key, item.kind))
    finally:
        await driver.close()


async def certificates(pin: bytes = PIN) -> dict[str, bytes]:
    """Key reference to certificate; one for each key, and a key for each."""
    found: dict[str, bytes] = {}
    driver = Driver(softhsm.MODULE)
    try:
        (token,) = [token for token in await driver.tokens() if token.initialised]
        await driver.open(token)
        await driver.verify(bytearray(pin))
        stored = await driver.objects()
        for key in {item.key for item in stored}:
            kinds = sorted(item.kind for item in stored if item.key == key)
            assert kinds == ["certificate", "private key", "public key"]
            slot = key[:1].hex().upper()
            assert slot not in found
            found[slot] = await driver.certificate(key)
    finally:
        await driver.close()
    return found


def encode(portal: FakePortal, serial: str, *keys: KeyOrder, **changes: Any) -> None:
    """Have the portal's next order encode the token, whose PIN stays."""
    portal.operation = EncodeCard(
        **{
            "card": "card-1",
            "driver": "pkcs11",
            "guid": token_guid(serial),
            "label": "Card 7",
            "valid_until": int(time.time()) + 10_000_000,
            "pin": PinEntry(kind="verify"),
            "keys": list(keys),
            **changes,
        }
    )


def encode_anew(portal: FakePortal, serial: str, *keys: KeyOrder, **changes: Any) -> None:
    """Have the portal's next order erase the token, and give it label, PIN, keys and certificates."""
    steps = [CardStep.INITIALISE, CardStep.SET_LABEL, CardStep.SET_PIN]
    pin = PinEntry(kind="new", policy=PinPolicy())
    encode(portal, serial, *keys, **{"steps": steps, "pin": pin, **changes})


@asynccontextmanager
async def token_agent(home: Path, readers: TokenReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    """An agent with this reader, and a portal that knows the PUK."""
    async with running_agent(home, readers) as running:
        running.trust_portal(portal)
        portal.binding = Binding.NONE
        portal.puk = SO_PIN
        yield running


def code_number(number: int) -> str:
    """One of many codes."""
    return f"{number:022d}"


def processes_of(module: Path) -> list[int]:
    """Processes that have loaded a module."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and str(module).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


async def encoded(agent: AgentParts, portal: FakePortal, serial: str, *keys: KeyOrder) -> dict[str, bytes]:
    """A first order has come to its end; what the token has from it."""
    encode(portal, serial, *keys)
    agent.windows.answers = [(None, None), (PIN, None)]
    assert await order(agent, portal, code_number(0)) == "finished"
    return await certificates()

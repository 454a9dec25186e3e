"""What an order about a card in a reader leaves behind of its secrets, broken off or finished: nothing."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cards.simulated import FACTORY_KEY, PUK
from tests.support.agent_parts import AgentParts
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    NEW_KEY,
    encoding_agent,
    first_encoding,
    order,
    personalised,
    window_of,
)
from tests.support.simulated_readers import SimulatedReaders

PIN, NEW_PUK = b"907316", b"60417825"
SECRETS = {"PIN": PIN, "PUK": PUK, "new PUK": NEW_PUK, "management key": FACTORY_KEY, "new key": NEW_KEY}
_SET_KEY, _RESET_RETRY = 0xFF, 0x2C


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with encoding_agent(tmp_path / "home", readers, portal) as running:
        portal.new_puk = NEW_PUK
        yield running


def forms(secret: bytes) -> list[bytes]:
    """As it is, in hexadecimal of both cases, in base64 at each offset, and as Python shows bytes."""
    found = [secret, secret.hex().encode(), secret.hex().upper().encode(), repr(secret)[2:-1].encode()]
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + secret + bytes(3))
        begins = -(-offset * 8 // 6)
        found.append(encoded[begins : begins + len(secret) * 8 // 6 - 1])
    return found


@pytest.mark.parametrize("torn_for_good", [None, _RESET_RETRY, _SET_KEY])
async def test_pin_puk_and_management_keys_are_in_no_file_and_no_log(
    agent: AgentParts,
    portal: FakePortal,
    readers: SimulatedReaders,
    caplog: pytest.LogCaptureFixture,
    torn_for_good: int | None,
) -> None:
    caplog.set_level(logging.DEBUG)
    readers.put(personalised())
    first_encoding(portal, AUTHENTICATION, new_puk=True)
    agent.windows.answers = [(None, PIN)]
    if torn_for_good is not None:
        portal.resume_within = 1
        readers.tear = lambda _number, apdu: "after" if apdu[1] == torn_for_good else None
    ended = await order(agent, portal)
    assert (ended == "finished") == (torn_for_good is None)
    sent = {apdu[1] for apdu in readers.trace}
    assert {_SET_KEY if torn_for_good is None else torn_for_good} <= sent
    written = agent.everything_written() + caplog.text.encode()
    assert written
    left = [name for name, secret in SECRETS.items() if any(form in written for form in forms(secret))]
    assert left == []
    typed = [given.pin for given in window_of(agent).given if given.pin is not None]
    assert [bytes(pin) for pin in typed] == [bytes(len(PIN))]

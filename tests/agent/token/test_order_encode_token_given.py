"""*Encode card* by the driver *pkcs11* with a PIN that the portal gives: what doesn't fit changes nothing."""

from __future__ import annotations

import pytest

from agent.pcsc.pkcs11 import Driver
from protocol.messages import CardStep, PinEntry, PinPolicy
from tests.support.agent_parts import CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import order, undone, window_of
from tests.support.softhsm import MODULE
from tests.support.token_orders import (
    NEW,
    certificates,
    encode,
    encode_anew,
    objects,
)
from tests.support.token_readers import TokenReaders

GIVEN = PinEntry(kind="given")
PAST_CONSENT = (None, None)


@pytest.fixture
async def agent(agent: AgentParts, portal: FakePortal) -> AgentParts:
    portal.pin = NEW
    return agent


@pytest.mark.parametrize(
    "pin", [PinEntry(kind="given", policy=PinPolicy()), PinEntry(kind="given", where="pad")]
)
async def test_an_entry_that_asks_for_more_than_it_gives_asks_nobody(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, pin: PinEntry
) -> None:
    encode_anew(portal, "0123", AUTHENTICATION, pin=pin)
    assert await order(agent, portal) == "encoding_unsupported"
    assert (agent.windows.opened, readers.looks) == ([], 0)


async def test_a_given_pin_without_a_step_that_sets_it_asks_nobody(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    encode(portal, "0123", AUTHENTICATION, pin=GIVEN)
    assert await order(agent, portal) == "encoding_unsupported"
    assert (agent.windows.opened, readers.looks) == ([], 0)


async def test_a_pin_that_never_came_changes_nothing(
    agent: AgentParts, portal: FakePortal, serial: str
) -> None:
    portal.pin = None
    before = await objects()
    encode_anew(portal, serial, AUTHENTICATION, pin=GIVEN)
    agent.windows.answers = [PAST_CONSENT]
    assert await order(agent, portal) == "params_invalid"
    assert (await undone(portal)).changing == 0
    assert await objects() == before


async def test_a_pin_that_the_card_can_not_take_ends_it_before_it_is_erased(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, serial: str
) -> None:
    before = await objects()
    readers.flags(0, shortest=len(NEW) + 1)
    encode_anew(portal, serial, AUTHENTICATION, pin=GIVEN)
    agent.windows.answers = [PAST_CONSENT]
    assert await order(agent, portal) == "card_pin_form"
    assert (await undone(portal)).changing == 0
    assert await objects() == before


@pytest.mark.parametrize("steps", [[CardStep.SET_PIN], [CardStep.INITIALISE, CardStep.SET_PIN]])
async def test_the_card_gets_the_pin_that_nobody_typed(
    agent: AgentParts, portal: FakePortal, serial: str, steps: list[CardStep]
) -> None:
    encode(portal, serial, AUTHENTICATION, steps=steps, pin=GIVEN)
    agent.windows.answers = [PAST_CONSENT]
    assert await order(agent, portal) == "finished"
    assert set(await certificates(NEW)) == {"9A"}
    assert portal.orders[CODE].changing == 1
    (asked,) = window_of(agent).asked
    assert "The portal sets its first PIN: nobody types one here." in asked.consequences
    assert NEW not in agent.everything_written()


async def test_of_a_long_label_the_card_keeps_whole_characters(
    agent: AgentParts, portal: FakePortal, serial: str
) -> None:
    label = "Badge for  " + "ü" * 20
    encode_anew(portal, serial, AUTHENTICATION, pin=GIVEN, label=label)
    agent.windows.answers = [PAST_CONSENT]
    assert await order(agent, portal) == "finished"
    driver = Driver(MODULE)
    try:
        (token,) = [token for token in await driver.tokens() if token.initialised]
    finally:
        await driver.close()
    assert token.label == "Badge for  " + "ü" * 10

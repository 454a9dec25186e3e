"""*Change* and *unblock PIN* by the driver *pkcs11*, with SoftHSM 2: wrong, blocked, unanswered, then as it goes."""

from __future__ import annotations

import asyncio

import pytest

from protocol.messages import ChangePin, PinPolicy, UnblockPin, VerifyPin
from protocol.tokens import token_guid
from tests.support import token_readers
from tests.support.agent_parts import AgentParts
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import Answer
from tests.support.physical_orders import order, window_of
from tests.support.token_orders import NEW, WRONG, objects, token_serial
from tests.support.token_readers import PIN, SO_PIN, TokenReaders

CONSENT: Answer = (None, None)


async def begin(portal: FakePortal, way: str) -> Answer:
    """Order one of the two for a token; what the person types for it."""
    token_readers.initialise()
    guid = token_guid(await token_serial())
    if way == "change":
        portal.operation = ChangePin(
            card="card-1", driver="pkcs11", guid=guid, label="Card 7", pin_policy=PinPolicy()
        )
        return (PIN, NEW)
    portal.operation = UnblockPin(
        card="card-1",
        driver="pkcs11",
        guid=guid,
        label="Card 7",
        pin_policy=PinPolicy(),
        puk="typed" if way == "unblock" else "escrow",
    )
    return (SO_PIN, NEW) if way == "unblock" else (None, NEW)


@pytest.mark.parametrize("way", ["change", "unblock"])
async def test_what_is_wrong_is_asked_again(agent: AgentParts, portal: FakePortal, way: str) -> None:
    right = await begin(portal, way)
    agent.windows.answers = [CONSENT, (WRONG, NEW), right]
    assert await order(agent, portal) == "finished"
    assert "is wrong" in str(window_of(agent).asked[2].warning)
    assert await objects(NEW) == []
    secrets = [given.known for given in window_of(agent).given]
    assert not any(any(secret) for secret in secrets if secret is not None)


@pytest.mark.parametrize(
    ("way", "flag", "code"),
    [("change", 0x40000, "card_pin_blocked"), ("unblock", 0x400000, "card_puk_blocked")],
)
async def test_what_is_blocked_is_not_tried(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, way: str, flag: int, code: str
) -> None:
    await begin(portal, way)
    readers.flags(flag)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == code
    assert len(window_of(agent).asked) == 1
    assert await objects(PIN) == []


async def test_a_puk_of_the_portals_that_is_wrong_is_tried_once(
    agent: AgentParts, portal: FakePortal
) -> None:
    portal.puk = WRONG
    agent.windows.answers = [CONSENT, await begin(portal, "escrow")]
    assert await order(agent, portal) == "pkcs11_puk_wrong"
    assert await objects(PIN) == []


@pytest.mark.parametrize("moment", ["crash", "after", "lost"])
async def test_after_a_change_without_an_answer_the_person_finds_out(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, moment: str
) -> None:
    right = await begin(portal, "change")
    readers.plan("C_SetPIN", moment)
    # what was not done is found out, and asked for again
    agent.windows.answers = [CONSENT, right, (NEW, None), *([right] if moment == "crash" else [])]
    ending = asyncio.create_task(order(agent, portal))
    if moment == "lost":
        window = await agent.windows.first()
        await window.until_said("Put the card “Card 7” back")
        readers.put()
    assert await ending == "finished"
    assert "costs a try" in str(window_of(agent).asked[2].warning)
    assert await objects(NEW) == []


async def test_with_a_wrong_try_spent_nobody_is_asked_to_find_out(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    agent.windows.answers = [CONSENT, await begin(portal, "change")]
    readers.plan("C_SetPIN", "after")
    readers.flags(0x10000)
    assert await order(agent, portal) == "card_pin_unknown"
    assert len(window_of(agent).asked) == 2


@pytest.mark.parametrize("moment", ["crash", "after"])
async def test_a_pin_that_is_set_by_a_proved_puk_is_set_again_where_the_answer_never_came(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, moment: str
) -> None:
    agent.windows.answers = [CONSENT, await begin(portal, "escrow")]
    readers.plan("C_InitPIN", moment)
    assert await order(agent, portal) == "finished"
    assert await objects(NEW) == []


@pytest.mark.parametrize("way", ["change", "unblock", "escrow"])
async def test_the_card_has_its_new_pin_for_other_programs(
    agent: AgentParts, portal: FakePortal, way: str
) -> None:
    agent.windows.answers = [CONSENT, await begin(portal, way)]
    assert await order(agent, portal) == "finished"
    assert token_readers.pkcs11_tool("--list-objects", pin=NEW) is not None
    assert NEW not in agent.everything_written()


async def test_whether_a_pin_is_right_is_asked_until_it_is(agent: AgentParts, portal: FakePortal) -> None:
    await begin(portal, "change")
    guid = token_guid(await token_serial())
    portal.operation = VerifyPin(card="card-1", driver="pkcs11", guid=guid, label="Card 7")
    agent.windows.answers = [CONSENT, (WRONG, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    assert "is wrong" in str(window_of(agent).asked[2].warning)
    secrets = [given.known for given in window_of(agent).given]
    assert not any(any(secret) for secret in secrets if secret is not None)

"""*Change PUK* and *block card* by the driver *pkcs11*, with SoftHSM 2: wrong, unanswered, refused, then as it goes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import pytest

from agent.handlers import token_block
from agent.pcsc.pkcs11 import Driver
from agent.pcsc.pkcs11_tokens import Token
from agent.ports import UserCancelled
from protocol.errors import InlayError
from protocol.messages import BlockCard, ChangePuk
from protocol.tokens import token_guid
from tests.support import softhsm, token_readers
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts, running_agent
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import Answer
from tests.support.physical_orders import order, undone, window_of
from tests.support.token_orders import objects, officer_may, token_serial
from tests.support.token_readers import PIN, SO_PIN, TokenReaders

CONSENT: Answer = (None, None)
NEW_PUK, WRONG = b"24681357", b"11112222"
_COUNT_LOW, _LOCKED = 0x10000, 0x40000
_PUK_LOW, _PUK_FINAL, _PUK_LOCKED = 0x100000, 0x200000, 0x400000


@pytest.fixture
async def agent(agent: AgentParts, portal: FakePortal) -> AgentParts:
    portal.new_puk = NEW_PUK
    return agent


async def change(portal: FakePortal, way: Literal["typed", "escrow"]) -> Answer:
    """Order another PUK for the token; what the person types when asked for it."""
    token_readers.initialise()
    guid = token_guid(await token_serial())
    portal.operation = ChangePuk(card="card-1", driver="pkcs11", guid=guid, label="Card 7", puk=way)
    if way == "typed":
        portal.puk = None
    return (SO_PIN, None)


async def block(portal: FakePortal) -> None:
    token_readers.initialise()
    guid = token_guid(await token_serial())
    portal.operation = BlockCard(card="card-1", driver="pkcs11", guid=guid, label="Card 7")


# --- change PUK


async def test_a_puk_of_the_portals_that_is_wrong_is_tried_once_and_nothing_is_said_to_be_changed(
    agent: AgentParts, portal: FakePortal
) -> None:
    await change(portal, "escrow")
    portal.puk = WRONG
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "pkcs11_puk_wrong"
    assert (await undone(portal)).changing == 0
    assert officer_may(SO_PIN)


@pytest.mark.parametrize("way", ["typed", "escrow"])
async def test_a_blocked_puk_is_not_tried(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, way: Literal["typed", "escrow"]
) -> None:
    await change(portal, way)
    readers.flags(_PUK_LOCKED)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "card_puk_blocked"
    assert len(window_of(agent).asked) == 1


async def test_without_the_card_nobody_is_asked_for_its_puk(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    answer = await change(portal, "typed")
    readers.take()
    agent.windows.answers = [CONSENT, answer]
    portal.resume_within = 1
    assert await order(agent, portal) == "timeout"
    assert len(window_of(agent).asked) == 1
    assert officer_may(SO_PIN)


async def test_a_typed_one_that_is_wrong_is_asked_again_and_the_last_try_is_announced(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    right = await change(portal, "typed")
    readers.flags(_PUK_FINAL)
    agent.windows.answers = [CONSENT, (WRONG, None), (WRONG, None), right]
    assert await order(agent, portal) == "finished"
    said = str(window_of(agent).asked[2].warning)
    assert "The PUK is wrong." in said
    assert "last try" in said
    assert officer_may(NEW_PUK)
    typed = [given.known for given in window_of(agent).given if given.known is not None]
    assert not any(any(secret) for secret in typed)


async def test_who_gives_up_after_a_wrong_one_ends_it_as_wrong(agent: AgentParts, portal: FakePortal) -> None:
    await change(portal, "typed")
    agent.windows.answers = [CONSENT, (WRONG, None), UserCancelled("puk")]
    assert await order(agent, portal) == "pkcs11_puk_wrong"
    assert (await undone(portal)).changing == 0


@pytest.mark.parametrize("way", ["typed", "escrow"])
@pytest.mark.parametrize("moment", ["crash", "after", "lost"])
async def test_after_a_change_without_an_answer_the_person_has_a_try_spent_to_find_out(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, moment: str, way: Literal["typed", "escrow"]
) -> None:
    right = await change(portal, way)
    readers.plan("C_SetPIN", moment)
    agent.windows.answers = [CONSENT, *([right] if way == "typed" else []), CONSENT]
    ending = asyncio.create_task(order(agent, portal))
    if moment == "lost":
        window = await agent.windows.first()
        await window.until_said("Put the card “Card 7” back")
        readers.put()
    assert await ending == "finished"
    assert "nobody knows whether" in str(window_of(agent).asked[-1].warning)
    assert (officer_may(NEW_PUK), officer_may(SO_PIN)) == (True, False)
    assert portal.orders[CODE].changing == 1


async def test_with_a_wrong_try_spent_nobody_is_asked_to_find_out(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    await change(portal, "escrow")
    readers.plan("C_SetPIN", "after")
    readers.flags(_PUK_LOW)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "card_puk_unknown"
    assert len(window_of(agent).asked) == 1


async def test_whether_the_puk_was_right_is_not_known_when_its_login_was_never_answered(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    await change(portal, "escrow")
    readers.plan("C_Login", "after")
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "pkcs11_unanswered"
    assert (await undone(portal)).changing == 0
    assert officer_may(SO_PIN)


@pytest.mark.parametrize("has", ["the new one", "its own"])
async def test_where_an_earlier_order_may_have_changed_it_the_person_has_a_try_spent(
    agent: AgentParts, portal: FakePortal, has: str
) -> None:
    await change(portal, "escrow")
    portal.puk_unsure = True
    if has == "the new one":
        portal.new_puk = SO_PIN
        portal.puk = WRONG
    agent.windows.answers = [CONSENT, CONSENT]
    assert await order(agent, portal) == "finished"
    assert officer_may(SO_PIN if has == "the new one" else NEW_PUK)


async def test_a_new_one_that_is_too_long_for_the_token_is_none_and_it_keeps_its_own(
    agent: AgentParts, portal: FakePortal
) -> None:
    await change(portal, "escrow")
    portal.new_puk = b"1" * 300
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "finished"
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert not receipt.puk_replaced
    assert officer_may(SO_PIN)


@pytest.mark.parametrize("way", ["typed", "escrow"])
async def test_the_officer_is_let_in_by_the_new_one_and_not_by_the_old(
    agent: AgentParts, portal: FakePortal, way: Literal["typed", "escrow"]
) -> None:
    right = await change(portal, way)
    agent.windows.answers = [CONSENT, *([right] if way == "typed" else [])]
    assert await order(agent, portal) == "finished"
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert receipt.puk_replaced
    assert (officer_may(SO_PIN), officer_may(NEW_PUK)) == (False, True)
    assert await objects(PIN) == []  # the user's PIN is as it was
    assert NEW_PUK not in agent.everything_written()


# --- block card


async def flags_now() -> Token:
    driver = Driver(softhsm.MODULE)
    try:
        (found,) = [token for token in await driver.tokens() if token.initialised]
    finally:
        await driver.close()
    return found


async def test_a_token_that_never_locks_is_refused_before_the_first_wrong_pin(
    agent: AgentParts, portal: FakePortal
) -> None:
    await block(portal)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "pkcs11_never_blocks"
    assert (await flags_now()).pin == "enough"  # SoftHSM remembers that there was a wrong one
    assert await objects(PIN) == []


async def test_a_token_that_is_blocked_is_a_success_and_told_nothing(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders
) -> None:
    await block(portal)
    readers.flags(_LOCKED)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "finished"
    assert (await flags_now()).pin == "enough"


async def test_without_consent_nothing_is_sent(agent: AgentParts, portal: FakePortal) -> None:
    await block(portal)
    agent.windows.answers = [UserCancelled("consent")]
    assert await order(agent, portal) == "user_cancelled"
    assert any("PUK" in line for line in window_of(agent).asked[0].consequences)
    assert (await flags_now()).pin == "enough"


async def test_with_a_try_spent_it_ends_half_done_and_another_order_goes_on(
    agent: AgentParts, portal: FakePortal, readers: TokenReaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_block, "_NEVER_LOCKS", frozenset())
    await block(portal)
    readers.plan("C_Login", "full")
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "card_full"
    error = window_of(agent).error
    assert error is not None
    assert "half done" in error.next_step
    readers.flags(_LOCKED)
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal, OTHER_CODE) == "finished"


@pytest.mark.parametrize("told", [False, True])
async def test_stopped_in_the_middle_it_is_half_done_from_the_first_wrong_pin_on(
    agent: AgentParts,
    portal: FakePortal,
    readers: TokenReaders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: bool,
) -> None:
    monkeypatch.setattr(token_block, "_NEVER_LOCKS", frozenset())
    await block(portal)
    if told:
        readers.plan("C_Login", "pull")
    else:
        readers.take()
    agent.windows.answers = [CONSENT]
    ending = asyncio.create_task(order(agent, portal))
    window = await agent.windows.first()
    await window.until_said("in the reader" if not told else "back in the reader")
    await agent.desk.close()
    ending.cancel()
    async with running_agent(tmp_path / "home", readers) as restarted:
        await restarted.desk.resume()
        at = await undone(portal)
        assert at.undone is not None
        assert at.undone.error == ("card_half_done" if told else "order_interrupted")


class Told:
    """A token that counts wrong PINs, or doesn't; see ``agent.returning_token.ReturningToken`` and ``Driver``."""

    def __init__(self, tries: int | None, right: int = -1) -> None:
        self.tries, self.right = tries, right
        self.pins: list[bytes] = []
        self.logged_out = 0
        self.noted = 0

    def note(self) -> None:
        """One more wrong PIN is about to be sent."""
        assert self.noted == len(self.pins)
        self.noted += 1

    def token(self, **changed: object) -> Token:
        known: dict[str, object] = {
            "slot": 0,
            "label": "",
            "serial": "1",
            "model": "Other",
            "manufacturer": "",
            "initialised": True,
            "pin_set": True,
            "writable": True,
            "pad": False,
            "pin": "blocked" if self.tries == 0 else "enough",
            "puk": "enough",
            "pin_length": (4, 6),
        }
        return Token(**{**known, **changed})  # type: ignore[arg-type]

    async def look(self) -> Token:
        return self.token()

    async def run(self, work: object) -> bool:
        assert callable(work)
        told: bool = await work(self)
        return told

    async def verify(self, pin: bytearray) -> None:
        self.pins.append(bytes(pin))
        if len(self.pins) == self.right:
            self.tries = 3
            return
        if self.tries is not None:
            self.tries -= 1
        raise InlayError("pkcs11_pin_wrong" if self.tries != 0 else "card_pin_blocked")

    async def log_out(self) -> None:
        self.logged_out += 1


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"model": "SoftHSM v2"}, "pkcs11_never_blocks"),
        ({"pad": True}, "pkcs11_block_at_pad"),
        ({"pin_set": False}, "pkcs11_pin_not_set"),
    ],
)
def test_what_wrong_pins_would_not_block_is_told_none(changed: dict[str, object], code: str) -> None:
    with pytest.raises(InlayError) as caught:
        token_block.see_that_it_can_be_blocked(Told(3).token(**changed))
    assert caught.value.code == code
    token_block.see_that_it_can_be_blocked(Told(0).token(**changed))  # blocked already: nothing to be told


async def test_a_token_that_turns_out_to_count_nothing_is_told_some_and_then_called_so() -> None:
    told = Told(None)
    with pytest.raises(InlayError) as caught:
        await token_block.block(told, told.note)  # type: ignore[arg-type]
    assert caught.value.code == "pkcs11_never_blocks"
    assert len(told.pins) == 16


@pytest.mark.parametrize(("tries", "right", "sent"), [(3, -1, 3), (15, -1, 15), (3, 2, 5)])
async def test_wrong_pins_of_its_length_until_it_is_blocked_a_right_one_by_chance_counts_anew(
    tries: int, right: int, sent: int
) -> None:
    told = Told(tries, right)
    await token_block.block(told, told.note)  # type: ignore[arg-type]
    assert len(told.pins) == told.noted == sent
    assert told.logged_out == (1 if right > 0 else 0)
    assert all(len(pin) == 6 and pin.isdigit() for pin in told.pins)

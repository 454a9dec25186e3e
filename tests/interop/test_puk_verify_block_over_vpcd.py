"""*Verify PIN*, *change PUK* and *block card* over real pcscd and vpcd; others say what has become of the card.

Another card is in the first reader all the time, and is told nothing. What the agent has left is asked of Yubico's
clients: yubikit for the status words, yubico-piv-tool and ykman for what a person would see.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from yubikit.core.smartcard import SW, ApduError
from yubikit.piv import PivSession

from agent.pcsc import scard
from agent.vsc.card import VirtualCard
from protocol.messages import Binding, BlockCard, ChangePuk, VerifyPin
from tests.support import foreign_connections
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts, PcscReadersOfATest, running_agent
from tests.support.certificates import ThrowAwayCA
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import Answer
from tests.support.pcscd import PrivatePcscd
from tests.support.physical_orders import order, window_of
from tests.support.processes import wait_until
from tests.support.virtual_cards import EC_KEYS, PIN, PUK, InReader, full_card, store_in

pytestmark = pytest.mark.interop

CONSENT: Answer = (None, None)
WRONG, NEW_PUK, OTHER_PUK = b"999999", b"24681357", b"11112222"
_VERIFY, _RESET_RETRY = 0x20, 0x2C


@pytest.fixture
async def portal(https_ca: ThrowAwayCA) -> AsyncIterator[FakePortal]:
    async with FakePortal(https_ca) as running:
        running.binding = Binding.NONE
        yield running


@pytest.fixture
def card(tmp_path: Path) -> VirtualCard:
    return full_card(store_in(tmp_path / "card"), EC_KEYS)


@pytest.fixture
def other(tmp_path: Path, pcscd: PrivatePcscd) -> Iterator[VirtualCard]:
    """Another card, with PIN and PUK as the one that is meant, alone in the first reader."""
    wait_until(lambda: not any(reader.present for reader in scard.list_readers()), "empty readers")
    made = full_card(store_in(tmp_path / "other"), EC_KEYS)
    with InReader(made, pcscd.vpcd_ports[0]):
        wait_until(lambda: scard.list_readers()[0].present, "the other card")
        yield made
        assert (made.details().pin_tries, made.details().puk_tries) == (3, 3)
        assert sw(pcscd.readers[0], _RESET_RETRY, PUK, PIN) == SW.OK


@pytest.fixture
async def agent(tmp_path: Path, other: VirtualCard, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with running_agent(tmp_path / "home", PcscReadersOfATest()) as running:
        running.trust_portal(portal)
        yield running


@contextlib.asynccontextmanager
async def inserted(card: VirtualCard, pcscd: PrivatePcscd) -> AsyncIterator[str]:
    """The card that is meant in the second reader, whose name it gives."""
    reader = InReader(card, pcscd.vpcd_ports[1])
    await asyncio.to_thread(reader.__enter__)
    try:
        await asyncio.to_thread(wait_until, lambda: scard.list_readers()[1].present, "the card")
        yield pcscd.readers[1]
    finally:
        await asyncio.to_thread(reader.__exit__)


def ordered(portal: FakePortal, kind: type[BlockCard | ChangePuk | VerifyPin], card: VirtualCard) -> None:
    portal.operation = kind(card="card-1", driver="piv", guid=card.guid.hex(), label="Card 7")


async def waited_in_vain(agent: AgentParts, portal: FakePortal) -> str:
    """An order while only the other card is there; what the window says of that."""
    portal.resume_within = 1
    agent.windows.answers = [CONSENT]
    assert await order(agent, portal) == "timeout"
    portal.resume_within = 3600
    assert len(window_of(agent).asked) == 1
    return " ".join(window_of(agent).texts)


# --- as others see a card


@contextlib.contextmanager
def yubikit(reader: str) -> Iterator[PivSession]:
    with foreign_connections.yubikit(reader) as wrapped:
        yield PivSession(wrapped)


def sw(reader: str, instruction: int, *values: bytes) -> int:
    """The status word of a card to VERIFY or RESET RETRY COUNTER."""
    data = b"".join(value.ljust(8, b"\xff") for value in values)
    with yubikit(reader) as session:
        try:
            session.protocol.send_apdu(0, instruction, 0, 0x80, data)
        except ApduError as refused:
            return refused.sw
    return SW.OK


def tries(reader: str) -> tuple[int, int]:
    """Tries left of PIN and PUK, by yubikit."""
    with yubikit(reader) as session:
        return session.get_pin_metadata().attempts_remaining, session.get_puk_metadata().attempts_remaining


def run(pcscd: PrivatePcscd, home: Path, *argv: str) -> tuple[int, str]:
    """Exit code and words of a command that knows nothing of Inlay."""
    done = pcscd.run(argv, env={"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"})
    return done.returncode, done.stdout + done.stderr


# --- the orders


async def test_verify_pin_asks_no_other_card_costs_a_wrong_pins_try_and_leaves_nothing_unlocked(
    agent: AgentParts, portal: FakePortal, pcscd: PrivatePcscd, card: VirtualCard
) -> None:
    ordered(portal, VerifyPin, card)
    assert "is another one, and stays as it is" in await waited_in_vain(agent, portal)
    async with inserted(card, pcscd) as reader:
        agent.windows.answers = [CONSENT, (WRONG, None), (WRONG, None), (b"888888", None), (PIN, None)]
        assert await order(agent, portal, OTHER_CODE) == "finished"
        said = [str(prompt.warning) for prompt in window_of(agent).asked]
        assert all("is wrong" in text for text in said[2:])
        # the same wrong one again costs no second try: it isn't sent
        assert ["last try" in text for text in said[2:]] == [False, False, True]
        receipt = portal.orders[OTHER_CODE].receipt
        assert receipt is not None
        assert receipt.guid == card.guid.hex()
        assert await asyncio.to_thread(tries, reader) == (3, 3)
        assert not card.unlocked


async def test_a_blocked_pin_is_said_and_none_is_asked_for(
    agent: AgentParts, portal: FakePortal, pcscd: PrivatePcscd, card: VirtualCard
) -> None:
    async with inserted(card, pcscd) as reader:
        for left in (0x63C2, 0x63C1, 0x63C0, SW.AUTH_METHOD_BLOCKED):
            assert await asyncio.to_thread(sw, reader, _VERIFY, WRONG) == left
        ordered(portal, VerifyPin, card)
        agent.windows.answers = [CONSENT]
        assert await order(agent, portal) == "card_pin_blocked"
        assert await asyncio.to_thread(tries, reader) == (0, 3)


async def test_change_puk_the_new_one_unblocks_and_the_old_one_does_not(
    agent: AgentParts, portal: FakePortal, pcscd: PrivatePcscd, card: VirtualCard, tmp_path: Path
) -> None:
    portal.new_puk, portal.puk = NEW_PUK, OTHER_PUK
    ordered(portal, ChangePuk, card)
    assert "is another one, and stays as it is" in await waited_in_vain(agent, portal)
    async with inserted(card, pcscd) as reader:
        agent.windows.answers = [CONSENT]
        assert await order(agent, portal, OTHER_CODE) == "card_puk_other"
        assert await asyncio.to_thread(tries, reader) == (3, 2)
        portal.puk = PUK
        agent.windows.answers = [CONSENT]
        assert await order(agent, portal, "02cdefghijklmnopqrstuv") == "finished"
        receipt = portal.orders["02cdefghijklmnopqrstuv"].receipt
        assert receipt is not None
        assert receipt.puk_replaced
        assert await asyncio.to_thread(sw, reader, _RESET_RETRY, PUK, b"654321") == 0x63C2
        tool = ("yubico-piv-tool", "-r", reader, "-a", "unblock-pin")
        code, _ = await asyncio.to_thread(run, pcscd, tmp_path, *tool, "-P", NEW_PUK.decode(), "-N", "654321")
        assert code == 0
        code, _ = await asyncio.to_thread(run, pcscd, tmp_path, *tool, "-P", PUK.decode(), "-N", "111333")
        assert code != 0
        assert await asyncio.to_thread(sw, reader, _VERIFY, b"654321") == SW.OK
        assert NEW_PUK not in agent.everything_written()


async def test_block_card_is_6983_on_pin_and_puk_and_on_no_other_card(
    agent: AgentParts, portal: FakePortal, pcscd: PrivatePcscd, card: VirtualCard, tmp_path: Path
) -> None:
    ordered(portal, BlockCard, card)
    assert "is another one, and stays as it is" in await waited_in_vain(agent, portal)
    async with inserted(card, pcscd) as reader:
        agent.windows.answers = [CONSENT]
        assert await order(agent, portal, OTHER_CODE) == "finished"
        blocked = SW.AUTH_METHOD_BLOCKED
        assert blocked == 0x6983
        assert await asyncio.to_thread(sw, reader, _VERIFY, PIN) == blocked
        assert await asyncio.to_thread(sw, reader, _RESET_RETRY, PUK, PIN) == blocked
        assert await asyncio.to_thread(tries, reader) == (0, 0)
        ykman = str(Path(sys.executable).parent / "ykman")
        _, said = await asyncio.to_thread(run, pcscd, tmp_path, ykman, "--reader", reader, "piv", "info")
        assert "0/3" in said
        agent.windows.answers = [CONSENT]  # blocked already: a success, and nothing is sent
        assert await order(agent, portal, "02cdefghijklmnopqrstuv") == "finished"
        assert portal.orders[CODE].receipt is None

"""The real agent, a real pcscd, and a logind that does as told: cards go with the person, killed at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.device import Device
from agent.pcsc import chuid, scard
from agent.vsc import personalise
from agent.vsc.store import CardStore
from protocol.errors import InlayError
from protocol.messages import StorageLevel
from tests.support.daemon_process import DaemonProcess
from tests.support.logind import MockLogind
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import wait_until
from tests.support.virtual_cards import CHEAP, PIN, PUK

pytestmark = pytest.mark.interop

LASTING = ThreadPoolExecutor(1)
"""A child ends with the thread that started it: this one lasts as long as the test run."""


class Desk:
    """An agent with one active card, and the session it belongs to."""

    def __init__(self, folder: Path) -> None:
        self.logind = MockLogind(folder).start()
        self.logind.add_session("1")
        self.agent = DaemonProcess(folder, environment={"DBUS_SYSTEM_BUS_ADDRESS": self.logind.address})
        device = Device(self.agent.state, allow_file=True)
        self.store = CardStore(self.agent.state / "cards" / "file", device.secret(StorageLevel.FILE))
        self.card = personalise.create(
            self.store, label="Test", pin=bytearray(PIN), puk=bytearray(PUK), cost=CHEAP
        )
        personalise.activate(self.card)
        device.key()

    @property
    def guid(self) -> str:
        return self.card.guid.hex()

    def within(self) -> bool:
        """Whether PC/SC shows the card."""
        with contextlib.suppress(InlayError):
            return chuid.find(self.guid) is not None
        return False

    def comes(self) -> None:
        wait_until(self.within, "the card in a reader", seconds=20, evidence=self.agent.log)

    def goes(self) -> None:
        wait_until(lambda: not self.within(), "no card in a reader", seconds=20, evidence=self.agent.log)

    def row(self) -> dict[str, object]:
        """The card as `inlay cards --json` has it."""
        [row] = self.agent.ask_now("cards", {})["result"]["cards"]
        assert isinstance(row, dict)
        return row


@pytest.fixture
def desk(pcscd: PrivatePcscd, tmp_path: Path) -> Iterator[Desk]:
    wait_until(lambda: not any(item.present for item in scard.list_readers()), "empty readers")
    made = Desk(tmp_path)
    yield made
    with contextlib.suppress(AssertionError):  # killed in the test
        made.agent.stop()
    made.logind.stop()


def test_the_card_goes_with_the_person_and_comes_back(desk: Desk) -> None:
    desk.agent.start()
    desk.comes()
    turns: list[tuple[Callable[[], None], Callable[[Desk], None], str]] = [
        (lambda: desk.logind.change("1", LockedHint=True), _unlock, "session_locked"),
        (lambda: desk.logind.change("1", Active=False), _to_front, "session_inactive"),
        (lambda: desk.logind.prepare("Sleep", True), _awake, "session_leaving"),
        (lambda: desk.logind.end_session("1"), _log_in, "session_ended"),
    ]
    for leave, back, code in turns:
        leave()
        desk.goes()
        assert desk.row()["code"] == code
        back(desk)
        desk.comes()
    assert desk.row()["code"] is None
    assert desk.agent.stop() == 0
    desk.goes()


def test_a_locked_screen_is_seen_at_the_start(desk: Desk) -> None:
    desk.logind.change("1", LockedHint=True)
    desk.agent.start()
    assert desk.row()["code"] == "session_locked"
    assert not desk.within()
    _unlock(desk)
    desk.comes()


def test_nothing_leaks_over_many_locks(desk: Desk) -> None:
    desk.agent.start()
    desk.comes()
    descriptors, threads = [], []
    for _ in range(10):
        desk.logind.change("1", LockedHint=True)
        wait_until(lambda: desk.row()["code"] == "session_locked", "the lock", seconds=20)
        _unlock(desk)
        wait_until(lambda: desk.row()["code"] is None, "the unlocking", seconds=20)
        descriptors.append(len(os.listdir(f"/proc/{desk.agent.pid}/fd")))
        threads.append(len(os.listdir(f"/proc/{desk.agent.pid}/task")))
    # one of them may be the question's own connection
    assert min(descriptors[-4:]) <= min(descriptors[:4]), descriptors
    # the event loop's pool grows when two calls meet by chance, and is bounded; a thread for each lock would be seven
    assert max(threads[-3:]) - max(threads[:3]) <= 3, threads


@pytest.mark.parametrize("moment", [0, 2, 3, 5])
def test_killed_at_any_of_these_moments_the_card_is_whole(desk: Desk, moment: int) -> None:
    """SIGKILL while it starts, goes or comes: the file is the one before, and the next start does what is right."""
    path = next((desk.agent.state / "cards").rglob("*.card"))
    before = path.read_bytes()
    desk.agent.start()
    if moment >= 2:
        desk.comes()
        desk.logind.change("1", LockedHint=True)
    if moment >= 4:
        desk.goes()
        _unlock(desk)
    if moment % 2:
        wait_until(lambda: bool(desk.row()), "an answer")
    desk.agent.kill()
    desk.goes()
    assert path.read_bytes() == before
    assert desk.store.load(desk.card.card_id).generation == desk.card.details().generation
    locked = moment in (2, 3)
    desk.agent.start()
    if locked:
        assert desk.row()["code"] == "session_locked"
        assert not desk.within()
        _unlock(desk)
    desk.comes()


async def test_pcscd_and_the_person_come_back_in_any_order(desk: Desk, pcscd: PrivatePcscd) -> None:
    """Locked, then pcscd is killed, unlocked while it is away, and then it comes back."""
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(LASTING, desk.agent.start)
    await asyncio.to_thread(desk.comes)
    await asyncio.to_thread(desk.logind.change, "1", LockedHint=True)
    await asyncio.to_thread(desk.goes)
    await loop.run_in_executor(LASTING, pcscd.kill)
    try:
        await asyncio.to_thread(_unlock, desk)
        without: Callable[[], bool] = lambda: desk.row()["code"] == "pcsc_no_service"  # noqa: E731
        await asyncio.to_thread(wait_until, without, "the service's absence", seconds=20)
    finally:
        await loop.run_in_executor(LASTING, pcscd.start)
    await asyncio.to_thread(desk.comes)


def test_going_and_coming_writes_nothing(desk: Desk) -> None:
    desk.agent.start()
    desk.comes()
    before = _stamps(desk.agent.state / "cards")
    desk.logind.lock("1")
    desk.goes()
    desk.logind.unlock("1")
    desk.comes()
    assert _stamps(desk.agent.state / "cards") == before


def _stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def _unlock(desk: Desk) -> None:
    desk.logind.change("1", LockedHint=False)


def _to_front(desk: Desk) -> None:
    desk.logind.change("1", Active=True)


def _awake(desk: Desk) -> None:
    desk.logind.prepare("Sleep", False)


def _log_in(desk: Desk) -> None:
    desk.logind.add_session("1")

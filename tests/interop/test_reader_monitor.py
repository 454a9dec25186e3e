"""The monitor against a real pcscd that goes and comes, and cards and readers that do."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.pcsc import scard
from agent.pcsc.monitor import Monitor
from agent.pcsc.reader_events import CardInserted, CardRemoved, Look, ReaderAdded, ReaderRemoved, ServiceLost
from agent.reader_watch import ReaderWatch, Seen, Watcher
from tests.support.dummy_card import ATR, DummyCard
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import wait_until

pytestmark = pytest.mark.interop

LASTING = ThreadPoolExecutor(1)
"""pcscd ends with the thread that started it (PR_SET_PDEATHSIG): this one lasts as long as the test run."""
RESTARTS = 10
SPARE_ENTRY = (
    'FRIENDLYNAME "Spare Reader"\nDEVICENAME /dev/null:0x6EA8\n'
    "LIBPATH /usr/lib/pcsc/drivers/serial/libifdvpcd.so\nCHANNELID 0x6EA8\n"
)


@pytest.fixture(autouse=True)
def empty_readers(pcscd: PrivatePcscd) -> None:
    wait_until(lambda: not any(reader.present for reader in scard.list_readers()), "empty readers")


@pytest.fixture
async def watcher(pcscd: PrivatePcscd) -> AsyncIterator[Watcher]:
    hub = ReaderWatch()
    yield await hub.watch()
    await hub.close()


async def until(watcher: Watcher, holds: Callable[[Look], bool], seconds: float = 20) -> list[Seen]:
    """What is told until a look is as wanted."""
    told: list[Seen] = []
    async with asyncio.timeout(seconds):
        while True:
            told.append(await watcher.next())
            if holds(told[-1].look):
                return told


def present(name: str, *, there: bool = True) -> Callable[[Look], bool]:
    return lambda look: [item.present for item in look.readers if item.name == name] == [there]


def has_service(look: Look) -> bool:
    return look.problem is None and len(look.readers) == 8


def events(told: list[Seen]) -> list[object]:
    return [event for seen in told for event in seen.events]


async def in_thread(work: Callable[[], object]) -> None:
    await asyncio.get_running_loop().run_in_executor(LASTING, work)


async def test_without_a_service_it_is_said_and_the_service_is_waited_for(
    pcscd: PrivatePcscd,
) -> None:
    await in_thread(pcscd.stop)
    hub = ReaderWatch()
    try:
        watcher = await hub.watch()
        told = await until(watcher, lambda look: look.problem is not None)
        assert events(told) == [ServiceLost("pcsc_no_service")]
        before = time.thread_time()
        await asyncio.sleep(0)
    finally:
        await in_thread(pcscd.start)
    told = await until(watcher, has_service)
    assert ReaderAdded(pcscd.readers[0]) in events(told)
    assert time.thread_time() - before < 1
    await hub.close()


async def test_cards_come_and_go(pcscd: PrivatePcscd, watcher: Watcher) -> None:
    reader = pcscd.readers[2]
    await until(watcher, present(reader, there=False))
    with DummyCard(pcscd.vpcd_ports[2]):
        assert events(await until(watcher, present(reader))) == [CardInserted(reader, ATR)]
    assert events(await until(watcher, present(reader, there=False))) == [CardRemoved(reader)]


async def test_a_card_changed_while_nobody_looked_is_noticed(pcscd: PrivatePcscd) -> None:
    """The monitor is held up in its telling, as by a machine that sleeps, while the card goes and comes."""
    reader, port = pcscd.readers[3], pcscd.vpcd_ports[3]
    looks: list[Look] = []
    held, free = threading.Event(), threading.Event()

    def tell(look: Look) -> None:
        looks.append(look)
        if present(reader)(look) and not held.is_set():
            held.set()
            free.wait(20)

    monitor = Monitor(tell)
    with contextlib.ExitStack() as stack:
        monitor.start()
        stack.callback(monitor.stop)
        with DummyCard(port):
            assert await asyncio.to_thread(held.wait, 20)
        await asyncio.to_thread(_wait_for_card, reader, False)
        with DummyCard(port):
            await asyncio.to_thread(_wait_for_card, reader, True)
            before = len(looks)
            free.set()
            await asyncio.to_thread(wait_until, lambda: len(looks) > before, "another look")
    counts = [item.count for look in looks for item in look.readers if item.name == reader and item.present]
    assert counts[1] == counts[0] + 2


def _wait_for_card(reader: str, there: bool) -> None:
    wait_until(
        lambda: {item.name: item.present for item in scard.list_readers()}.get(reader) is there,
        f"a card in {reader}: {there}",
    )


async def test_a_reader_that_is_configured_no_more_is_gone_after_a_restart(
    pcscd: PrivatePcscd, watcher: Watcher, spare_entry: Path
) -> None:
    await until(watcher, has_service)
    await asyncio.to_thread(spare_entry.write_text, SPARE_ENTRY)
    await in_thread(pcscd.restart)
    told = await until(watcher, lambda look: any("Spare" in item.name for item in look.readers))
    assert [e for e in events(told) if isinstance(e, ReaderAdded) and "Spare" in e.reader]
    await asyncio.to_thread(spare_entry.unlink)
    await in_thread(pcscd.restart)
    told = await until(watcher, has_service)
    assert [e for e in events(told) if isinstance(e, ReaderRemoved) and "Spare" in e.reader]


@pytest.fixture
def spare_entry(pcscd: PrivatePcscd) -> Iterator[Path]:
    path = Path("/etc/reader.conf.d/spare")
    yield path
    if path.exists():
        path.unlink()
        LASTING.submit(pcscd.restart).result()


async def test_a_service_killed_and_restarted_is_told_right_each_time(
    pcscd: PrivatePcscd, watcher: Watcher
) -> None:
    reader, port = pcscd.readers[4], pcscd.vpcd_ports[4]
    await until(watcher, has_service)
    for turn in range(RESTARTS):
        with DummyCard(port):
            assert events(await until(watcher, present(reader))) == [CardInserted(reader, ATR)]
            await in_thread(pcscd.kill if turn % 2 else pcscd.stop)
            gone = events(await until(watcher, lambda look: look.problem is not None))
            assert gone.index(CardRemoved(reader)) < gone.index(ReaderRemoved(reader))
            assert gone[-1] == ServiceLost("pcsc_no_service")
            assert gone.count(ReaderRemoved(reader)) == 1
        await in_thread(pcscd.start)
        back = events(await until(watcher, has_service))
        assert back.count(ReaderAdded(reader)) == 1
        assert not any(isinstance(event, CardInserted) for event in back)


async def test_it_ends_whatever_it_is_doing(pcscd: PrivatePcscd) -> None:
    for pause in (0.0, 0.001, 0.05):
        monitor = Monitor(lambda _look: None)
        monitor.start()
        await asyncio.sleep(pause)
        async with asyncio.timeout(10):
            await asyncio.to_thread(monitor.stop)
    assert not [thread for thread in threading.enumerate() if thread.name == "readers"]

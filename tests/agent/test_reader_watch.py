"""One monitor for all who watch, none for nobody, and no change lost on the way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from agent.pcsc.reader_events import CardInserted, CardRemoved, Look, ReaderLook, ServiceLost
from agent.reader_watch import ReaderWatch, Seen, Watcher

ATR = b"\x3b\x80"


def look(count: int, *, present: bool) -> Look:
    return Look(readers=(ReaderLook("A", present=present, atr=ATR if present else b"", count=count),))


class FakeMonitor:
    """Tells what it is told to, from another thread."""

    made: list[FakeMonitor]

    def __init__(self, tell: Callable[[Look], None]) -> None:
        self._tell = tell
        self.running = False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def say(self, shown: Look) -> None:
        thread = threading.Thread(target=self._tell, args=(shown,))
        thread.start()
        thread.join()


@pytest.fixture
def made() -> list[FakeMonitor]:
    return []


@pytest.fixture
def hub(made: list[FakeMonitor]) -> ReaderWatch:
    def make(tell: Callable[[Look], None]) -> FakeMonitor:
        made.append(FakeMonitor(tell))
        return made[-1]

    return ReaderWatch(make)


async def told(watcher: Watcher) -> Seen:
    return await asyncio.wait_for(watcher.next(), 5)


async def test_no_service_is_told_at_once(hub: ReaderWatch, made: list[FakeMonitor]) -> None:
    watcher = await hub.watch()
    made[0].say(Look("pcsc_no_service"))
    seen = await told(watcher)
    assert seen.look.problem == "pcsc_no_service"
    assert seen.events == (ServiceLost("pcsc_no_service"),)
    await watcher.close()


async def test_no_readers_is_told_at_once(hub: ReaderWatch, made: list[FakeMonitor]) -> None:
    watcher = await hub.watch()
    made[0].say(Look())
    assert (await told(watcher)).look == Look()
    await watcher.close()


async def test_nobody_watches_no_monitor_runs(hub: ReaderWatch, made: list[FakeMonitor]) -> None:
    first, second = await hub.watch(), await hub.watch()
    assert len(made) == 1
    await first.close()
    await first.close()
    assert made[0].running
    await second.close()
    assert not made[0].running
    third = await hub.watch()
    assert len(made) == 2
    made[0].say(look(7, present=True))  # a word that was on its way
    made[1].say(Look())
    assert (await told(third)).look == Look()
    await hub.close()
    assert not made[1].running


async def test_who_comes_later_is_told_how_it_stands(hub: ReaderWatch, made: list[FakeMonitor]) -> None:
    first = await hub.watch()
    made[0].say(look(1, present=True))
    await told(first)
    second = await hub.watch()
    assert CardInserted("A", ATR) in (await told(second)).events
    await hub.close()


async def test_a_watcher_that_was_busy_gets_everything_at_once(
    hub: ReaderWatch, made: list[FakeMonitor]
) -> None:
    watcher = await hub.watch()
    made[0].say(look(1, present=True))
    before = await told(watcher)
    made[0].say(look(2, present=False))
    made[0].say(look(3, present=True))
    seen = await told(watcher)
    assert seen.events == (CardRemoved("A"), CardInserted("A", ATR))
    assert seen.insertions["A"] == before.insertions["A"] + 1
    await hub.close()


async def test_events_for_a_watcher_that_never_comes_are_bounded(
    hub: ReaderWatch, made: list[FakeMonitor]
) -> None:
    watcher = await hub.watch()
    for number in range(600):
        made[0].say(look(number, present=bool(number % 2)))
        if number % 100 == 99:
            await asyncio.sleep(0)  # 600 in one step are close to what a busy machine's loop may be held for
    seen = await told(watcher)
    assert len(seen.events) == 256
    assert seen.look == look(599, present=True)
    await hub.close()

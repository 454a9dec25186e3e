"""The alarm: no polling, no wake missed, and work that fails is not forgotten."""

from __future__ import annotations

import asyncio

import pytest

from portal.events import ChangeBus
from portal.processes.alarm import Alarm


class _Work:
    topic = "work"

    def __init__(self) -> None:
        self.due: list[int | None] = []
        self.fail = False
        self.asked = 0
        self.ran = asyncio.Semaphore(0)

    async def next_due(self) -> int | None:
        return self.due.pop(0) if self.due else None

    async def run_due(self) -> None:
        self.asked += 1
        self.ran.release()
        if self.fail:
            raise RuntimeError("the database is away")


async def _runs(work: _Work, times: int) -> None:
    async with asyncio.timeout(5):
        for _ in range(times):
            await work.ran.acquire()


async def test_nothing_due_is_nothing_done() -> None:
    """One look at the start, none after it."""
    work, bus = _Work(), ChangeBus()
    alarm = Alarm(work, bus, lambda: 100)
    alarm.start()
    await _runs(work, 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await work.ran.acquire()
    await alarm.stop()
    assert work.asked <= 2


async def test_woken_by_a_change_and_by_the_time() -> None:
    """A change makes it look anew; what is due already is done at once."""
    work, bus = _Work(), ChangeBus()
    work.due = [100, None]
    alarm = Alarm(work, bus, lambda: 100)
    alarm.start()
    await _runs(work, 2)
    bus.publish(["work"])
    await _runs(work, 1)
    bus.publish(["something else"])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await work.ran.acquire()
    await alarm.stop()


async def test_a_failure_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """The alarm lives on."""
    work, bus = _Work(), ChangeBus()
    work.fail = True
    alarm = Alarm(work, bus, lambda: 100)
    alarm.start()
    await _runs(work, 1)
    work.fail = False
    bus.publish(["work"])
    await _runs(work, 1)
    await alarm.stop()
    assert "tried again" in caplog.text
    assert "builtins.RuntimeError at run_due:" in caplog.text
    assert "the database is away" not in caplog.text


async def test_stop_without_start() -> None:
    """Nothing to stop."""
    await Alarm(_Work(), ChangeBus(), lambda: 0).stop()

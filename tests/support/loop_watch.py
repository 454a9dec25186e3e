"""Notices code that blocks an asyncio event loop.

A step's time is wall time less the time in which its thread was ready and had no processor, and less the time in which
the whole machine stood still: what other programs of a busy machine take, or who runs a virtual one, is not the step's
doing, what it computes or waits for itself is. Nor is a collection of garbage, which goes through what all the tests of
the process have left, and comes in whichever step it will.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LIMIT_SECONDS = 1.0


@dataclass(frozen=True)
class Blocked:
    """One callback or task step that held the loop for too long.

    Attributes:
        step: the event loop's own description of it.
        seconds: how long it ran.
        computed: how much of that it had a processor.
    """

    step: str
    seconds: float
    computed: float


class _Thread(threading.local):
    """This thread's scheduler statistics (Linux): time on a processor, time ready without one, in ns."""

    def __init__(self) -> None:
        self._statistics = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        os.close(self._statistics)

    def waited(self) -> float:
        """Seconds that this thread has waited for a processor so far."""
        return int(os.pread(self._statistics, 80, 0).split()[1]) / 1e9


class _Standstill:
    """A thread that wants to be woken every tenth of a second, and adds up by how much it was too late.

    It is late when nothing runs at all, and while another thread computes without letting go of Python's lock. The
    latter has used a processor meanwhile: what a step has computed is never taken for a standstill.
    """

    TICK = 0.1

    def __init__(self) -> None:
        self.seconds = 0.0
        self._due = time.perf_counter()

    def start(self) -> None:
        """From now on, until the process ends."""
        threading.Thread(target=self._run, name="standstill", daemon=True).start()

    def so_far(self) -> float:
        """Seconds, with those of a standstill that the thread has not been woken from yet."""
        return self.seconds + max(0.0, time.perf_counter() - self._due)

    def add(self, seconds: float) -> None:
        """What a test has waited for on purpose."""
        self.seconds += seconds

    def _run(self) -> None:
        while True:
            self._due = time.perf_counter() + self.TICK
            time.sleep(self.TICK)
            late = time.perf_counter() - self._due
            if late > self.TICK:
                self.seconds += late


class _Collections(threading.local):
    """Seconds that this thread has spent on collecting garbage so far."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._begin = 0.0

    def told(self, phase: str, _info: object) -> None:
        """See ``gc.callbacks``."""
        if phase == "start":
            self._begin = time.perf_counter()
        else:
            self.seconds += time.perf_counter() - self._begin


class _Sample(threading.local):
    """What was true of this thread at most ``AGE`` seconds before the step that begins now.

    Reading it for each step would cost as much as a tenth of a test run. A step is judged by up to ``AGE`` too mildly.
    """

    AGE = 0.02

    def __init__(self) -> None:
        self._thread = _Thread()
        self.take(time.perf_counter())

    def take(self, now: float) -> None:
        """Anew."""
        self.taken, self.waited = now, self._thread.waited()
        self.computed, self.stood = time.thread_time(), _standstill.so_far()
        self.collected = _collections.seconds

    def waited_since(self) -> float:
        """Seconds."""
        return self._thread.waited() - self.waited


_standstill = _Standstill()
_collections = _Collections()
_sample = _Sample()
_seen: list[Blocked] = []
_run_handle = asyncio.Handle._run


def _timed_run(handle: asyncio.Handle) -> None:
    begin = time.perf_counter()
    if begin - _sample.taken > _sample.AGE:
        _sample.take(begin)
    _run_handle(handle)
    if (seconds := time.perf_counter() - begin) > LIMIT_SECONDS:
        _judge(handle, seconds)


def _judge(handle: asyncio.Handle, seconds: float) -> None:
    collected = _collections.seconds - _sample.collected
    seconds -= _sample.waited_since() + collected
    computed = time.thread_time() - _sample.computed - collected
    seconds -= max(0.0, min(_standstill.so_far() - _sample.stood, seconds - computed))
    if seconds > LIMIT_SECONDS:
        _seen.append(Blocked(repr(handle), seconds, computed))


def install() -> None:
    """Measure every step of every event loop of this process from now on."""
    _standstill.start()
    gc.callbacks.append(_collections.told)
    asyncio.Handle._run = _timed_run  # type: ignore[method-assign, assignment]


@contextmanager
def excused() -> Iterator[None]:
    """What is waited for here, by the test and not by the product, is nobody's blocking."""
    begin = time.perf_counter()
    try:
        yield
    finally:
        _standstill.add(time.perf_counter() - begin)


def take() -> list[Blocked]:
    """What held a loop longer than ``LIMIT_SECONDS`` since the last call."""
    blocked, _seen[:] = list(_seen), []
    return blocked

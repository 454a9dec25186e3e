"""Notices code that blocks an asyncio event loop.

A step's time is wall time less the time in which its thread was ready and had no processor: what other programs
of a busy machine take is not the step's doing, what it computes or waits for itself is.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from dataclasses import dataclass

LIMIT_SECONDS = 1.0


@dataclass(frozen=True)
class Blocked:
    """One callback or task step that held the loop for too long.

    Attributes:
        step: the event loop's own description of it.
        seconds: how long it ran.
    """

    step: str
    seconds: float


class _Thread(threading.local):
    """This thread's scheduler statistics (Linux): time on a processor, time ready without one, in ns."""

    def __init__(self) -> None:
        self._statistics = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        os.close(self._statistics)

    def waited(self) -> float:
        """Seconds that this thread has waited for a processor so far."""
        return int(os.pread(self._statistics, 80, 0).split()[1]) / 1e9


_thread = _Thread()
_seen: list[Blocked] = []
_run_handle = asyncio.Handle._run


def _timed_run(handle: asyncio.Handle) -> None:
    begin, waited = time.perf_counter(), _thread.waited()
    _run_handle(handle)
    seconds = time.perf_counter() - begin - (_thread.waited() - waited)
    if seconds > LIMIT_SECONDS:
        _seen.append(Blocked(repr(handle), seconds))


def install() -> None:
    """Measure every step of every event loop of this process from now on."""
    asyncio.Handle._run = _timed_run  # type: ignore[method-assign, assignment]


def take() -> list[Blocked]:
    """What held a loop longer than ``LIMIT_SECONDS`` since the last call."""
    blocked, _seen[:] = list(_seen), []
    return blocked

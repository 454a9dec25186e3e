"""Notices code that blocks an asyncio event loop."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

LIMIT_SECONDS = 0.5


@dataclass(frozen=True)
class Blocked:
    """One callback or task step that held the loop for too long.

    Attributes:
        step: the event loop's own description of it.
        seconds: how long it ran.
    """

    step: str
    seconds: float


_seen: list[Blocked] = []
_run_handle = asyncio.Handle._run


def _timed_run(handle: asyncio.Handle) -> None:
    begin = time.perf_counter()
    _run_handle(handle)
    seconds = time.perf_counter() - begin
    if seconds > LIMIT_SECONDS:
        _seen.append(Blocked(repr(handle), seconds))


def install() -> None:
    """Measure every step of every event loop of this process from now on."""
    asyncio.Handle._run = _timed_run  # type: ignore[method-assign, assignment]


def take() -> list[Blocked]:
    """What held a loop longer than ``LIMIT_SECONDS`` since the last call."""
    blocked, _seen[:] = list(_seen), []
    return blocked

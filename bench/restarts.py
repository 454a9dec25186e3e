"""pcscd killed and restarted again and again under a watching process with a card in: events, and what leaks.

``python -m bench.restarts [--times N]``. The process holds what the agent holds: the watch of readers with a watcher
on it, and a virtual card that puts itself back. Each turn pcscd is killed (odd turns: ended) and started again; told
must be, in this order: the card went, the reader went, the service went; the service came, the reader came, the card
came; each once. In each turn the card is asked for its CHUID over a connection of its own, too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from agent.card_places import CardPlaces
from agent.pcsc import chuid
from agent.pcsc.reader_events import (
    CardInserted,
    CardRemoved,
    Look,
    ReaderAdded,
    ReaderEvent,
    ReaderRemoved,
    ServiceFound,
    ServiceLost,
)
from agent.reader_watch import ReaderWatch, Watcher
from agent.vsc import personalise
from agent.vsc.card import VirtualCard
from bench.card_soak import GROWTH_KIB, Use, use_of
from tests.support import isolation
from tests.support.pcscd import PrivatePcscd
from tests.support.virtual_cards import empty_card, store_in

TIMES: Final = 100
WARM_UP: Final = 5
"""Turns before the first measurement: libraries are loaded, threads of pools made."""
_WINDOW: Final = 10
"""Turns at the beginning and at the end that are compared."""
_SECONDS: Final = 60


class Wrong(Exception):
    """The events of a turn aren't what happened."""


async def restarts(pcscd: PrivatePcscd, card: VirtualCard, times: int) -> int:
    """Run, and print; 1 when something was told wrong, or leaked."""
    hub, places, lasting = ReaderWatch(), CardPlaces(), ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(2))  # a pool that still grows would look like a leak
    await loop.run_in_executor(lasting, pcscd.start)
    watcher = await hub.watch()
    shown = await places.show(card)
    reader = str(shown.reader)
    await _until(watcher, _present(reader))
    uses: list[Use] = []
    lost: list[float] = []
    back: list[float] = []
    try:
        for turn in range(-WARM_UP, times):
            if turn == 0:
                for warmed_up in (uses, lost, back):
                    warmed_up.clear()
            begun = time.monotonic()
            await loop.run_in_executor(lasting, pcscd.stop if turn % 2 else pcscd.kill)
            _check(reader, await _until(watcher, lambda look: look.problem is not None), coming=False)
            lost.append(time.monotonic() - begun)
            await loop.run_in_executor(lasting, pcscd.start)
            begun = time.monotonic()
            _check(reader, await _until(watcher, _present(reader)), coming=True)
            back.append(time.monotonic() - begun)
            if await asyncio.to_thread(chuid.find, card.guid.hex()) != reader:
                raise Wrong(turn, "the card doesn't answer")
            uses.append(use_of(os.getpid()))
    finally:
        await hub.close()
        await places.close()
        await loop.run_in_executor(lasting, pcscd.stop)
        lasting.shutdown()
    return _report(uses, lost, back)


async def _until(watcher: Watcher, holds: Callable[[Look], bool]) -> list[ReaderEvent]:
    told: list[ReaderEvent] = []
    async with asyncio.timeout(_SECONDS):
        while True:
            seen = await watcher.next()
            told += seen.events
            if holds(seen.look):
                return told


def _present(reader: str) -> Callable[[Look], bool]:
    return lambda look: any(item.name == reader and item.present for item in look.readers)


def _check(reader: str, told: list[ReaderEvent], *, coming: bool) -> None:
    """Raises `Wrong` when what was told of the card's reader isn't what happened, once each, in order."""
    kinds = [type(event) for event in told if getattr(event, "reader", reader) == reader]
    expected: list[type] = [CardRemoved, ReaderRemoved, ServiceLost]
    if coming:
        expected = [ServiceFound, ReaderAdded, CardInserted]
    if kinds != expected:
        raise Wrong([kind.__name__ for kind in kinds])


def _report(uses: list[Use], lost: list[float], back: list[float]) -> int:
    before, after = _least(uses[:_WINDOW]), _least(uses[-_WINDOW:])
    print(
        f"restarts: {len(uses)} times: events right every time; the end is told after {_middle(lost)} (pcscd's own "
        f"end included), the card in its reader {_middle(back)} after pcscd listens"
    )
    print(
        f"restarts: before -> after: PSS {before.pss_kib} -> {after.pss_kib} KiB, handles {before.handles} -> "
        f"{after.handles}, threads {before.threads} -> {after.threads}"
    )
    leaks = after.pss_kib - before.pss_kib > GROWTH_KIB
    return int(leaks or after.handles > before.handles or after.threads > before.threads)


def _least(uses: list[Use]) -> Use:
    """The least that was held at the end of one of these turns: connections that come and go aren't leaks."""
    return Use(
        min(use.pss_kib for use in uses), min(use.handles for use in uses), min(use.threads for use in uses)
    )


def _middle(seconds: list[float]) -> str:
    return f"{1000 * statistics.median(seconds):.0f} ms (at most {1000 * max(seconds):.0f})"


def main() -> int:
    """Run; 1 when something was told wrong, or leaked."""
    parser = argparse.ArgumentParser(prog="python -m bench.restarts")
    parser.add_argument("--times", type=int, default=TIMES)
    options = parser.parse_args()
    isolation.enter()
    with tempfile.TemporaryDirectory() as folder:
        card = empty_card(store_in(Path(folder)))
        personalise.activate(card)
        return asyncio.run(restarts(PrivatePcscd(Path(folder)), card, options.times))


if __name__ == "__main__":
    sys.exit(main())

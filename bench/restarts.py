"""pcscd killed and restarted again and again under the running agent: what a page is told, and what leaks.

``python -m bench.restarts [--times N]``. The agent is the daemon in a process of its own. One virtual card of its own
is in a reader, and another card in another one, of which orders are carried out. A page with a ticket watches the
readers over the loopback socket. In each turn pcscd is killed (odd turns: ended) and started again; the page must be
told, for both cards and in this order: the card went, the reader went, the service went; the service came, the reader
came, the card came, and that one card was put in. In every third turn an order is under way: it must end, and
afterwards the card must be as good as before. What the agent holds is read from ``/proc``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from protocol.messages import Reader, ReadersParams
from tests.support import isolation
from tests.support.certificates import ThrowAwayCA
from tests.support.fake_portal import FakePortal
from tests.support.pcscd import PrivatePcscd
from tests.support.reader_page import ReaderPage, open_reader_page
from tests.support.restart_orders import ORDERS, OrderUnderWay, RestartStage, restart_stage

TIMES: Final = 100
WARM: Final = 10
"""Turns before what the agent holds counts: each order was carried out, libraries are loaded, pools made. So many at
the beginning and at the end are compared then; of fewer than three times as many turns a third."""
EVERY: Final = 3
"""An order is under way in every so many turns."""
POOL: Final = 4
"""Threads that the event loop's pool may still get by chance: it is bounded, and a leak has one for each turn."""
PASSING: Final = 2
"""Handles more or fewer: connections come and go at any moment, and a leak has one for each turn or order."""
GROWTH_KIB: Final = 4096
"""More memory in the end than half way, and it is a leak: what the C library keeps of freed memory stays below."""
_CARD, _EMPTY, _NO_READER, _NO_SERVICE = range(4)


class Wrong(Exception):
    """What the page was told isn't what happened."""


class Held(NamedTuple):
    """What a process holds.

    Attributes:
        rss_kib: memory.
        handles: open file descriptors.
        threads: running threads.
    """

    rss_kib: int
    handles: int
    threads: int

    def __str__(self) -> str:
        """In words."""
        return f"RSS {self.rss_kib} KiB, {self.handles} handles, {self.threads} threads"


@dataclass
class Restarts:
    """What was measured.

    Attributes:
        beginning: what the agent held before the first turn.
        warm_up: turns before what it holds counts.
        held: after each turn.
        gone: seconds from the end of pcscd until the page was told of it, each turn.
        back: seconds from pcscd's listening until both cards were in their readers.
        ends: how the orders ended.
    """

    beginning: Held
    warm_up: int
    held: list[Held] = field(default_factory=list)
    gone: list[float] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)

    @property
    def warm(self) -> Held:
        """After warming up."""
        return _usual(self.held[self.warm_up :][: self.warm_up])

    @property
    def half(self) -> Held:
        """Half way."""
        return _usual(self.held[len(self.held) // 2 :][: self.warm_up])

    @property
    def end(self) -> Held:
        """In the end."""
        return _usual(self.held[-self.warm_up :])

    @property
    def leaks(self) -> bool:
        """Whether the agent holds more in the end than when it was warm, and more memory than half way.

        Memory grows with the first dozens of orders, and then stays: half of the turns are its warm-up.
        """
        warm, end = self.warm, self.end
        grown = end.rss_kib - self.half.rss_kib > GROWTH_KIB
        return grown or end.handles > warm.handles + PASSING or end.threads > warm.threads + POOL

    def __str__(self) -> str:
        """The figures."""
        ends = ", ".join(f"{count} {end}" for end, count in sorted(self.ends.items()))
        return "\n".join(
            (
                f"restarts: {len(self.held)} times: the page was told right every time; the end after "
                f"{_middle(self.gone)} (pcscd's own end included), the cards in their readers {_middle(self.back)} "
                "after pcscd listens",
                f"restarts: {self.ends.total()} with an order under way: {ends}",
                f"restarts: the agent at the beginning: {self.beginning}",
                f"restarts: after {self.warm_up}: {self.warm}",
                f"restarts: half way: {self.half}",
                f"restarts: in the end: {self.end}: {'LEAKS' if self.leaks else 'no leak'}",
            )
        )


def held_by(pid: int) -> Held:
    """What a process holds now."""
    process = Path("/proc") / str(pid)
    lines = (line.partition(":") for line in (process / "status").read_text().splitlines())
    status = {name: value.split() for name, _, value in lines}
    return Held(int(status["VmRSS"][0]), len(list((process / "fd").iterdir())), int(status["Threads"][0]))


async def restarts(stage: RestartStage, page: ReaderPage, times: int, *, every: int = EVERY) -> Restarts:
    """Restart pcscd so often, and measure.

    Raises:
        Wrong: the page was told something else than what happened.
        AssertionError: an order hasn't ended, or its card isn't as good as before.
    """
    await page.until(_all_back(stage))
    measured = Restarts(held_by(stage.agent.pid), max(1, min(WARM, times // 3)))
    for turn in range(times):
        order = None
        if turn % every == 0:
            order = await stage.begin(ORDERS[turn // every % len(ORDERS)])
        await _turn(stage, page, turn, measured, order)
        if order is not None:
            measured.ends[f"{order.name}: {await order.ended()}"] += 1
        measured.held.append(held_by(stage.agent.pid))
    await stage.see_that_the_card_is_good()
    return measured


async def _turn(
    stage: RestartStage, page: ReaderPage, turn: int, measured: Restarts, order: OrderUnderWay | None
) -> None:
    """The service goes and comes back."""
    before = {reader: _row(page.shown, reader) for reader in stage.readers}
    begun = time.monotonic()
    await stage.in_thread(stage.pcscd.stop if turn % 2 else stage.pcscd.kill)
    told = await page.until(lambda shown: not shown.service)
    measured.gone.append(time.monotonic() - begun)
    for reader in stage.readers:
        check_order(turn, [_CARD, *(_stands(shown, reader) for shown in told)], going=True)
    if order is not None:
        await order.while_it_is_away()
    await stage.in_thread(stage.pcscd.start)
    begun = time.monotonic()
    told = await page.until(_all_back(stage))
    measured.back.append(time.monotonic() - begun)
    for reader in stage.readers:
        check_order(turn, [_NO_SERVICE, *(_stands(shown, reader) for shown in told)], going=False)
        _check_card(turn, before[reader], _row(page.shown, reader))


def _all_back(stage: RestartStage) -> Callable[[ReadersParams], bool]:
    def holds(shown: ReadersParams) -> bool:
        there = all(_stands(shown, reader) == _CARD for reader in stage.readers)
        return there and len(shown.readers) == len(stage.pcscd.readers)

    return holds


def _row(shown: ReadersParams, reader: str) -> Reader | None:
    return next((row for row in shown.readers if row.name == reader), None)


def _stands(shown: ReadersParams, reader: str) -> int:
    """How far from a card in its reader it is."""
    if not shown.service:
        if shown.readers:
            raise Wrong("readers without a service", shown)
        return _NO_SERVICE
    row = _row(shown, reader)
    if row is None:
        return _NO_READER
    return _CARD if row.card_present else _EMPTY


def check_order(turn: int, told: list[int], *, going: bool) -> None:
    """See that a reader went or came straight on: card, no card, no reader, no service, numbered from 0.

    Raises:
        Wrong: it didn't.
    """
    if told != sorted(told, reverse=not going):
        raise Wrong(turn, "going" if going else "coming", told)


def _check_card(turn: int, before: Reader | None, after: Reader | None) -> None:
    """Raises `Wrong` when it isn't the same card, put in once more."""
    if before is None or after is None or not after.atr or after.mute:
        raise Wrong(turn, before, after)
    if after.atr != before.atr or after.insertions != before.insertions + 1:
        raise Wrong(turn, before, after)


def _usual(held: list[Held]) -> Held:
    """What was held at the end of most of these turns: connections that come and go aren't leaks."""
    return Held(*(statistics.median_low(values) for values in zip(*held, strict=True)))


def _middle(seconds: list[float]) -> str:
    return f"{1000 * statistics.median(seconds):.0f} ms (at most {1000 * max(seconds):.0f})"


@contextlib.asynccontextmanager
async def opened(
    folder: Path, pcscd: PrivatePcscd, ca: ThrowAwayCA, lasting: ThreadPoolExecutor
) -> AsyncIterator[tuple[RestartStage, ReaderPage]]:
    """The agent with its cards, and a page that watches; pcscd is running.

    Args:
        folder: an existing empty one.
        pcscd: running.
        ca: of the portal's server.
        lasting: a thread that lasts: what it starts ends with it.
    """
    async with (
        FakePortal(ca) as portal,
        restart_stage(folder, pcscd, portal, lasting) as stage,
        open_reader_page(portal) as page,
    ):
        yield stage, page


async def _measure(folder: Path, times: int) -> int:
    pcscd, lasting = PrivatePcscd(folder), ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(lasting, pcscd.start)
    try:
        async with opened(folder, pcscd, ThrowAwayCA(folder), lasting) as (stage, page):
            measured = await restarts(stage, page, times)
    finally:
        await loop.run_in_executor(lasting, pcscd.stop)
        lasting.shutdown()
    sys.stdout.write(f"{measured}\n")
    return int(measured.leaks)


def main() -> int:
    """Run; 1 when something leaked."""
    parser = argparse.ArgumentParser(prog="python -m bench.restarts")
    parser.add_argument("--times", type=int, default=TIMES)
    options = parser.parse_args()
    isolation.enter()
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder), options.times))


if __name__ == "__main__":
    sys.exit(main())

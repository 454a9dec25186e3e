"""The short form of `make restarts`: pcscd goes and comes back under the running agent, half the times in an order."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.pcsc import scard
from bench.restarts import GROWTH_KIB, PASSING, POOL, Held, Restarts, Wrong, check_order, opened, restarts
from tests.support.certificates import ThrowAwayCA
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import wait_until
from tests.support.restart_orders import ORDERS

pytestmark = pytest.mark.interop

LASTING = ThreadPoolExecutor(1)
"""pcscd ends with the thread that started it (PR_SET_PDEATHSIG): this one lasts as long as the test run."""
TIMES = 8


def test_leaks_are_told() -> None:
    """A handle or a thread for each turn, or some megabytes more: a leak."""
    warm = Held(40_000, 20, 7)
    for more in (Held(40_001 + GROWTH_KIB, 20, 7), Held(40_000, 21 + PASSING, 7), Held(40_000, 20, 8 + POOL)):
        assert Restarts(warm, 1, [warm, warm, more]).leaks
    assert not Restarts(warm, 1, [warm, warm, Held(40_100, 21, 8)]).leaks
    passing = Restarts(warm, 3, [warm] * 7 + [warm, Held(40_000, 25, 7), warm])
    assert not passing.leaks


@pytest.mark.parametrize("told", [[0, 3, 2, 3], [0, 1, 0, 3]])
def test_a_reader_that_comes_back_by_itself_is_wrong(told: list[int]) -> None:
    with pytest.raises(Wrong):
        check_order(0, told, going=True)
    with pytest.raises(Wrong):
        check_order(0, told[::-1], going=False)
    check_order(0, [0, 0, 1, 3], going=True)
    check_order(0, [3, 2, 0], going=False)


@pytest.mark.timeout(240)
async def test_pcscd_goes_and_comes_back_under_the_agent(
    https_ca: ThrowAwayCA, tmp_path: Path, pcscd: PrivatePcscd
) -> None:
    empty = lambda: not any(reader.present for reader in scard.list_readers())  # noqa: E731
    await asyncio.to_thread(wait_until, empty, "empty readers")
    async with opened(tmp_path, pcscd, https_ca, LASTING) as (stage, page):
        measured = await restarts(stage, page, TIMES, every=2)
    assert measured.ends == {f"{kind.name}: finished": 1 for kind in ORDERS}
    assert len(measured.held) == TIMES
    before, end = measured.beginning, measured.end
    assert end.handles <= before.handles + PASSING, measured
    assert end.threads <= before.threads + POOL, measured

"""The short form of the soak: a few hundred signatures, the same figures, the same judgement."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.vsc.commands import Algorithm
from bench.card_soak import GROWTH_KIB, Report, Use, soak
from tests.support.pcscd import PrivatePcscd

pytestmark = pytest.mark.interop


def test_leaks_are_told() -> None:
    """One handle, one thread or a megabyte more: a leak."""
    before = Use(40_000, 10, 3)
    for after in (Use(40_001 + GROWTH_KIB, 10, 3), Use(40_000, 11, 3), Use(40_000, 10, 4)):
        assert Report(Algorithm.P_256, 1, 1.0, 1.0, 1.0, before, after).leaks
    assert not Report(Algorithm.P_256, 1, 1.0, 1.0, 1.0, before, Use(40_100, 9, 3)).leaks


def test_two_hundred_signatures(pcscd: PrivatePcscd, tmp_path: Path) -> None:
    """Nothing is left behind. How fast it is, `make soak` says: here other tests run beside it."""
    for report in soak(pcscd, tmp_path, 200):
        assert not report.leaks, report
        assert f"200 x {report.algorithm.label}" in str(report)

"""The short form of the soak: a few hundred signatures, the same figures, the same judgement."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.vsc.commands import Algorithm
from bench.card_soak import GROWTH_KIB, Report, Round, Use, soak
from tests.support.pcscd import PrivatePcscd

pytestmark = pytest.mark.interop


def test_leaks_are_told() -> None:
    """One handle, one thread or a megabyte more: a leak."""
    before = Use(40_000, 10, 3)
    for after in (Use(40_001 + GROWTH_KIB, 10, 3), Use(40_000, 11, 3), Use(40_000, 10, 4)):
        assert Report(Algorithm.P_256, 1, [], before, after).leaks
    assert not Report(Algorithm.P_256, 1, [], before, Use(40_100, 9, 3)).leaks


def test_a_round_is_compared_with_itself() -> None:
    """What the machine did meanwhile changes no share, and one bad round changes no figure."""
    alike = [Round(card=2.0 * busy, instant=1.0 * busy, bare=0.5 * busy) for busy in (1e-3, 9e-3)]
    spoilt = Round(card=1.0, instant=1e-3, bare=1e-3)
    report = Report(Algorithm.P_256, 3, [*alike, spoilt], Use(1, 1, 1), Use(1, 1, 1))
    assert report.share == pytest.approx(0.75)
    assert "75% of what they allow" in str(report)


def test_two_hundred_signatures(pcscd: PrivatePcscd, tmp_path: Path) -> None:
    """Nothing is left behind. How fast it is, `make soak` says: here other tests run beside it."""
    for report in soak(pcscd, tmp_path, 200):
        assert not report.leaks, report
        assert f"200 x {report.algorithm.label}" in str(report)

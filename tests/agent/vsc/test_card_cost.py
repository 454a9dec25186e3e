"""What opening a card costs by default, and that 9C's PIN for each signature doesn't cost it each time."""

from __future__ import annotations

from pathlib import Path

from agent.vsc.state import Argon2Cost
from bench.card_argon2 import measure


def test_default_cost_is_rfc_9106s_second_choice(tmp_path: Path) -> None:
    """64 MiB, three passes, four lanes; repeats of the PIN, with a signature each, are far from that."""
    figures = measure(tmp_path, Argon2Cost(), 3)
    assert (figures.cost.memory_kib, figures.cost.passes, figures.cost.lanes) == (65_536, 3, 4)
    assert figures.signature < figures.first / 3, figures
    assert "65536 KiB" in str(figures)

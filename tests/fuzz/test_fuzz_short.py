"""A short run of each fuzz target with a fixed seed; `python -m tests.fuzz` is the long one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.fuzz.card_target import CardTarget
from tests.fuzz.framing_target import FramingTarget
from tests.fuzz.state_target import StateTarget
from tests.fuzz.target import Finding, Sequence, Target, campaign, decode, encode

SECONDS, SEED = 4.0, 73


class Careless:
    """A target with a fault: it chokes on a byte."""

    name = "framing"

    def seeds(self) -> list[Sequence]:
        return [[b"seed"]]

    def run(self, sequence: Sequence, _rng: object) -> list[int]:
        if b"\xfe" in b"".join(sequence):
            raise IndexError
        return [len(sequence)]


def test_a_fault_is_found_and_can_be_repeated() -> None:
    """The loop finds what it is for, and says the input."""
    with pytest.raises(Finding) as found:
        campaign(Careless(), SECONDS, SEED)
    assert "seed 73" in str(found.value)
    assert decode(str(found.value).partition(": ")[2]) == found.value.sequence
    with pytest.raises(IndexError):
        Careless().run(found.value.sequence, None)


def test_corpus_lines_round_trip() -> None:
    """Empty items too."""
    assert decode(encode([b"", b"\x00", b"ab"])) == [b"", b"\x00", b"ab"]


@pytest.mark.parametrize("name", ["apdu", "framing", "state"])
def test_short_campaign(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No exception, no hang, no change by what was refused."""
    caplog.set_level(logging.CRITICAL + 1)
    makers: dict[str, Target] = {
        "apdu": CardTarget(tmp_path / "apdu", monkeypatch),
        "framing": FramingTarget(),
        "state": StateTarget(tmp_path / "state"),
    }
    result = campaign(makers[name], SECONDS, SEED)
    assert result.runs > 20
    assert result.features > 3

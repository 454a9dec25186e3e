"""The long form: every target for some minutes (10 by default), from a fresh seed, which is printed.

``python -m tests.fuzz [--minutes N] [--seed N] [--keep] [target …]``; with ``--keep`` inputs that showed
something new are added to tests/corpus.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
from pathlib import Path

import pytest

from tests.fuzz.card_target import CardTarget
from tests.fuzz.framing_target import FramingTarget
from tests.fuzz.state_target import StateTarget
from tests.fuzz.target import CORPUS, Finding, Result, Target, campaign, encode

_LONGEST_KEPT = 300  # characters of a line


def main() -> int:
    """Run; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("targets", nargs="*", choices=["apdu", "framing", "state", []])
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # a senseless state is told in the log each time
    say = sys.stdout.write
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        targets: list[Target] = [
            CardTarget(Path(folder) / "apdu", patch),
            FramingTarget(),
            StateTarget(Path(folder) / "state"),
        ]
        for target in targets:
            if options.targets and target.name not in options.targets:
                continue
            try:
                result = campaign(target, 60 * options.minutes, options.seed)
            except Finding as finding:
                say(f"fuzz: FOUND {finding}\n{finding.__cause__!r}\n")
                return 1
            say(_line(target.name, result, options.seed, options.minutes))
            sys.stdout.flush()
            if options.keep:
                _keep(target.name, result)
    return 0


def _line(name: str, result: Result, seed: int, minutes: float) -> str:
    return (
        f"fuzz: {name:8} {result.runs:9} inputs in {minutes:g} min, {result.features} kinds of answers, "
        f"slowest {result.slowest:.3f} s, seed {seed}: nothing found\n"
    )


def _keep(name: str, result: Result) -> None:
    lines = [line for line in map(encode, result.found) if len(line) <= _LONGEST_KEPT]
    with (CORPUS / f"{name}.txt").open("a") as corpus:
        corpus.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())

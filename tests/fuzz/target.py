"""What a fuzz target is, and the loop that drives one: for a time, from a seed, from a corpus.

There is no coverage instrumentation: a target tells what it saw of a run (instruction, status word, state
flags), and inputs that showed something new join the pool.
"""

from __future__ import annotations

import random
import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tests.fuzz.mutate import mutate_sequence

CORPUS: Final = Path(__file__).parents[1] / "corpus"
SLOWEST_SECONDS: Final = 10.0
"""A run longer than that is a hang: the longest thing a card does takes less than a second here."""

Sequence = list[bytes]


class Target(Protocol):
    """Something that takes sequences of byte strings."""

    name: str

    def seeds(self) -> list[Sequence]:
        """Inputs to begin with."""

    def run(self, sequence: Sequence, rng: random.Random) -> Iterable[Hashable]:
        """Feed a sequence; what was seen. Raises whatever is wrong."""


@dataclass(frozen=True)
class Result:
    """A campaign that found nothing wrong.

    Attributes:
        runs: sequences fed.
        features: distinct things seen.
        slowest: seconds of the longest run.
        found: sequences that showed something new.
    """

    runs: int
    features: int
    slowest: float
    found: list[Sequence]


class Finding(AssertionError):
    """An input that broke a promise.

    Attributes:
        target: name of the target.
        seed: of the campaign.
        sequence: the input.
    """

    def __init__(self, target: str, seed: int, sequence: Sequence) -> None:
        self.target, self.seed, self.sequence = target, seed, sequence
        super().__init__(target, seed)

    def __str__(self) -> str:
        """All that is needed to repeat it: the line goes to the corpus."""
        return f"{self.target}, seed {self.seed}: {encode(self.sequence)}"


def campaign(target: Target, seconds: float, seed: int) -> Result:
    """Feed a target for so many seconds, the whole corpus first.

    Raises:
        Finding: something was wrong; the cause is chained.
    """
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    pool = [*target.seeds(), *read_corpus(target.name)]
    features: set[Hashable] = set()
    found: list[Sequence] = []
    waiting, runs, slowest = list(pool), 0, 0.0
    end = time.monotonic() + seconds
    while waiting or time.monotonic() < end:
        sequence = waiting.pop() if waiting else mutate_sequence(rng, pool)
        begin = time.monotonic()
        try:
            seen = set(target.run(sequence, rng))
        except Exception as error:
            raise Finding(target.name, seed, sequence) from error
        slowest = max(slowest, time.monotonic() - begin)
        if slowest > SLOWEST_SECONDS:
            raise Finding(target.name, seed, sequence)
        if not seen <= features and runs >= len(pool) - len(found):
            pool.append(sequence)
            found.append(sequence)
        features |= seen
        runs += 1
    return Result(runs, len(features), slowest, found)


def encode(sequence: Sequence) -> str:
    """A sequence as a line of the corpus: hexadecimal, blanks between, ``-`` for an empty one."""
    return " ".join(item.hex() or "-" for item in sequence)


def decode(line: str) -> Sequence:
    """A line of the corpus as a sequence."""
    return [b"" if word == "-" else bytes.fromhex(word) for word in line.split()]


def read_corpus(name: str) -> list[Sequence]:
    """Inputs that once showed something new, or something wrong."""
    path = CORPUS / f"{name}.txt"
    return [decode(line) for line in path.read_text().splitlines() if line and not line.startswith("#")]

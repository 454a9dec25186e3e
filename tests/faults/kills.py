"""Kills agent, PIN window, portal and pcscd at every boundary of both journals, at moments of chance, and twice.

``python -m tests.faults.kills [--seed N] [--uniform N] [--twice N] [--victims …] [--at agent|portal …]``
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.faults import batch_kills
from tests.faults.errands import ERRANDS
from tests.faults.moments import Kills, Row, at_boundaries, summary, twice, uniform
from tests.faults.plan import VICTIMS
from tests.faults.scene import Scene
from tests.support import isolation

_BATCH: Final = "batch"


def main() -> int:
    """Run; 1 when an order was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kills")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--uniform", type=int, default=20, metavar="N")
    parser.add_argument("--twice", type=int, default=20, metavar="N", help="kills, and kills in the recovery")
    parser.add_argument(
        "--errand", choices=[*sorted(ERRANDS), _BATCH], default="create", help="what is ordered"
    )
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=list(VICTIMS))
    parser.add_argument("--at", nargs="*", choices=["agent", "portal"], default=["agent", "portal"])
    parser.add_argument("--match", default="", help="boundaries whose description has this text")
    options = parser.parse_args()
    if options.errand != "create":  # at a terminal: a window is the victim of a new card's order
        options.victims = [victim for victim in options.victims if victim != "window"]
    if options.errand == _BATCH:
        options.victims = [victim for victim in options.victims if victim in batch_kills.VICTIMS]
    isolation.enter()
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="kills-") as folder,
        _kills(Path(folder), options) as kills,
    ):
        clean = kills.clean(window=False)
        say(
            f"click to Active: {clean.seconds:.1f} s, {len(clean.boundaries)} boundaries; seed {options.seed}"
        )
        wanted = [at for at in clean.boundaries if at.side in options.at and options.match in str(at)]
        moments = at_boundaries(wanted, options.victims)
        moments += uniform(options.seed, options.uniform, options.victims)
        moments += twice(options.seed, options.twice, clean.boundaries, options.victims)
        for row in kills.run(moments):
            rows.append(row)
            say(str(row))
        left_over = kills.left_over()
    for text in left_over:
        say(f"the CA's own list, of all orders: {text}")
    say(summary(rows, left_over))
    return bool(left_over) or any(row.end == "lost" for row in rows)


@contextlib.contextmanager
def _kills(folder: Path, options: argparse.Namespace) -> Iterator[Kills]:
    """What carries moments out, and its scene."""
    if options.errand == _BATCH:
        with batch_kills.BatchScene(folder) as batches:
            yield batch_kills.BatchKills(batches)
        return
    errand = ERRANDS[options.errand]
    with Scene(folder, screen="window" in options.victims, errand=errand) as scene:
        yield Kills(scene)


def say(text: str) -> None:
    """Print, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

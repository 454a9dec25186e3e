"""The whole run of `tests.faults.tears`: simulated readers, then a real pcscd with vpcd, then the real portal."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.cards.profiles import PROFILES
from tests.faults import tears_at_portal
from tests.faults.portal_disturbance import EXCHANGED, TAKEN
from tests.faults.tear_jobs import JOBS, MAIN_JOBS, MODES, OTHER_PROFILES, POWER, PROFILE, Position, Row
from tests.faults.tear_workers import Task, Workers
from tests.faults.tears import positions, say, tell_ends
from tests.faults.tears_over_pcscd import named, plan

OVER: Final = ("simulated", "pcscd", "portal")
_JOBS: Final = [*JOBS, *tears_at_portal.JOBS]
_MODES: Final = [*MODES, POWER, TAKEN, EXCHANGED]


def main() -> int:
    """Run; 1 when a position was lost."""
    options = _options()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tears-") as temporary:
        folder = options.keep or Path(temporary)
        rows: list[Row] = []
        if "simulated" in options.over:
            with Workers(options.workers, folder / "simulated", "simulated") as workers:
                rows += _simulated(workers, options)
        if "pcscd" in options.over:
            with Workers(options.workers, folder / "pcscd", "pcscd") as workers:
                rows += _over_pcscd(workers, options)
        if "portal" in options.over:
            with Workers(options.workers, folder / "portal", "portal") as workers:
                rows += _at_portal(workers, options)
    say(f"{(time.monotonic() - begun) / 60:.1f} minutes, {options.workers} at a time")
    return tell_ends(rows, "tears")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.tears")
    parser.add_argument("--jobs", nargs="+", choices=sorted(_JOBS), default=_JOBS)
    parser.add_argument("--modes", nargs="+", choices=_MODES, default=_MODES)
    parser.add_argument(
        "--over",
        nargs="+",
        choices=OVER,
        default=list(OVER),
        help="at each APDU of simulated readers; once for each instruction over a real pcscd with vpcd; "
        "at each APDU, with the real portal",
    )
    parser.add_argument(
        "--profiles",
        nargs="*",
        choices=[each.name for each in PROFILES],
        default=list(OTHER_PROFILES),
        metavar="NAME",
        help=f"cards on which {', '.join(MAIN_JOBS)} run, too; without a name none: {'; '.join(OTHER_PROFILES)}",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth position")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="at a time")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the agents' folders of lost positions"
    )
    return parser.parse_args()


def _simulated(workers: Workers, options: argparse.Namespace) -> list[Row]:
    jobs = [(name, "") for name in options.jobs if name in JOBS]
    jobs += [(name, card) for card in options.profiles for name in MAIN_JOBS if name in options.jobs]
    counted = workers.all([Task("count", each) for each in jobs])
    modes = [mode for mode in options.modes if mode in (*MODES, POWER)]
    found: list[Position] = []
    for (name, card), apdus in zip(jobs, counted, strict=True):
        mine = positions(name, apdus, modes, options.every, card)
        found += mine
        say(header(f"{name} ({card})" if card else name, apdus, mine))
    return _run(workers, found, 50)


def header(job: str, apdus: int, found: Sequence[Position]) -> str:
    """What a job has: its APDUs on both sides in each mode, and apart from them each without power."""
    torn = [each for each in found if each.mode != POWER]
    powerless = len(found) - len(torn)
    said = f"{job}: {apdus} APDUs" + (f", {len(torn)} positions" if torn else "")
    return f"{said}; {powerless} {POWER}" if powerless else said


def _over_pcscd(workers: Workers, options: argparse.Namespace) -> list[Row]:
    jobs = [name for name in options.jobs if name in JOBS and JOBS[name].profile is PROFILE]
    has = dict(zip(jobs, workers.all([Task("instructions", (name,)) for name in jobs]), strict=True))
    modes = [mode for mode in options.modes if mode in MODES]
    found = plan(has, modes, options.every)
    for job in jobs:
        mine = [each for each in found if each.job == job]
        kinds = list(dict.fromkeys(each.apdu for each in mine))
        say(f"{job} over pcscd: {len(mine)} positions, {', '.join(map(named, kinds))}")
    return _run(workers, found, 20)


def _at_portal(workers: Workers, options: argparse.Namespace) -> list[Row]:
    jobs = [name for name in options.jobs if name in tears_at_portal.JOBS]
    found: list[Position] = []
    for job, apdus in zip(jobs, workers.all([Task("count", (job,)) for job in jobs]), strict=True):
        mine = tears_at_portal.positions(job, apdus, options.modes, options.every)
        found += mine
        say(f"{job}: {len(apdus)} moments, {len(mine)} positions")
    return _run(workers, found, 50)


def _run(workers: Workers, found: list[Position], step: int) -> list[Row]:
    def tell(number: int, row: Row) -> None:
        if row.faults or number % step == 0:
            say(str(row))

    told: Callable[[int, Any], None] = tell
    return workers.all([Task("run", (at,)) for at in found], told)

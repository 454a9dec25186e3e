"""One moment after the other: click, kill, start again, wait for the end, compare."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.faults import judge
from tests.faults.hook import window_of
from tests.faults.plan import VICTIMS, Boundary, Plan
from tests.support.processes import NotReadyError, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tests.faults.scene import Desk, Scene

END_SECONDS = 60.0
"""An order is at its end that long after what was killed runs again."""
_RUN_SECONDS = 60.0
_QUIET_SECONDS = 3.0
"""How long an order that has not begun is looked at: it stays so."""
NOT_REACHED = "not reached"


class Moment(NamedTuple):
    """When to kill whom.

    Attributes:
        victim: one of ``VICTIMS``.
        at: a boundary, or a share (0 to 1) of the time between click and Active.
    """

    victim: str
    at: Boundary | float

    def __str__(self) -> str:
        return str(self.at) if isinstance(self.at, Boundary) else f"at {self.at:.3f} of the way"


class Row(NamedTuple):
    """What came of a moment.

    Attributes:
        end: ``finished``, ``undone``, ``not begun``, ``lost``, or ``not reached``: nobody was killed.
        seconds: from the victim's restart to the end.
        faults: what is wrong; nothing when the order is not lost.
    """

    moment: Moment
    end: str
    seconds: float
    faults: list[str]

    def __str__(self) -> str:
        text = f"{self.moment!s:64} {self.moment.victim:7} {self.end:11} {self.seconds:5.1f} s"
        return "\n    ".join([text, *self.faults])


class Clean(NamedTuple):
    """A run without a kill.

    Attributes:
        boundaries: all that both journals passed.
        seconds: from click to Active.
    """

    boundaries: list[Boundary]
    seconds: float


class Kills:
    """Carries moments out, on one scene.

    Attributes:
        scene: the processes.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._plans = 0
        self._clean: dict[bool, Clean] = {}

    def clean(self, *, window: bool) -> Clean:
        """Run once without a kill.

        Raises:
            AssertionError: even so the order isn't finished.
        """
        if window not in self._clean:
            with self.scene.desk() as desk:
                seconds, end = self.order(desk, None, window=window)
                assert end == judge.FINISHED, judge.where(self.scene, desk)
                assert judge.faults(self.scene, desk, end) == []
                self._clean[window] = Clean(self.scene.plan.trace(), seconds)
            self.scene.leave()
        return self._clean[window]

    def run(self, moments: Iterable[Moment]) -> Iterator[Row]:
        """Carry moments out."""
        for moment in moments:
            if isinstance(moment.at, float):
                self.clean(window=moment.victim == "window")  # how long the way is
            with self.scene.desk() as desk:
                row = self._row(desk, moment)
            self.scene.leave()
            yield row

    def _row(self, desk: Desk, moment: Moment) -> Row:
        window = moment.victim == "window"
        killed, end = self.order(desk, moment, window=window)
        if end == NOT_REACHED:
            return Row(moment, end, 0.0, [])
        seconds = time.monotonic() - killed
        if not end:
            return Row(moment, "lost", seconds, [judge.where(self.scene, desk), *_last(desk)])
        found = judge.faults(self.scene, desk, end)
        if end == judge.FINISHED and not _in_time(judge.in_reader, killed + END_SECONDS):
            found.append("no reader shows the card")
        return Row(moment, "lost" if found else end, seconds, [*found, *(_last(desk) if found else [])])

    def order(self, desk: Desk, moment: Moment | None, *, window: bool) -> tuple[float, str]:
        """One order: seconds it took, or when what was killed ran again; and its end."""
        scene = self.scene
        hands = scene.hands(desk, scene.link(), window=window)
        self._arm(desk, moment)
        begun = time.monotonic()
        hands.begin()
        try:
            if moment is None:
                end = self._end(desk, begun + _RUN_SECONDS)
                return time.monotonic() - begun, end
            if not self._killed(desk, moment, begun):
                return 0.0, NOT_REACHED
            scene.start_again(moment.victim, desk)
            again = time.monotonic()
            return again, self._end(desk, again + END_SECONDS)
        finally:
            hands.stop()
            scene.plan.disarm()

    def _arm(self, desk: Desk, moment: Moment | None) -> None:
        self._plans += 1
        at = moment.at if moment is not None and isinstance(moment.at, Boundary) else None
        victim = "" if moment is None else moment.victim
        self.scene.plan.arm(Plan(self._plans, at, victim, self.scene.pids(desk)))

    def _killed(self, desk: Desk, moment: Moment, begun: float) -> bool:
        """Whether the moment came and somebody was killed."""
        if isinstance(moment.at, float):
            delay = (
                begun + moment.at * self.clean(window=moment.victim == "window").seconds - time.monotonic()
            )
            time.sleep(max(0.0, delay))
            pids = self.scene.pids(desk)
            pid = window_of(pids["agent"]) if moment.victim == "window" else pids[moment.victim]
            if pid:
                os.kill(pid, signal.SIGKILL)
            return bool(pid)
        wait_until(
            lambda: self.scene.plan.fired() is not None or judge.end_of(self.scene, desk) in _ENDS,
            "the moment, or the order's end",
            seconds=_RUN_SECONDS,
        )
        fired = self.scene.plan.fired()
        return fired is not None and fired.pid != 0

    def _end(self, desk: Desk, until: float) -> str:
        """How the order ends, as soon as it has; empty when it hasn't in time."""
        quiet = time.monotonic() + _QUIET_SECONDS

        def ended() -> bool:
            end = judge.end_of(self.scene, desk)
            return bool(end) and (end != judge.NOT_BEGUN or time.monotonic() > quiet)

        return judge.end_of(self.scene, desk) if _in_time(ended, until) else ""


def at_boundaries(boundaries: Sequence[Boundary], victims: Sequence[str] = VICTIMS) -> list[Moment]:
    """Every victim at every boundary."""
    return [Moment(victim, boundary) for boundary in boundaries for victim in victims]


def uniform(seed: int, count: int, victims: Sequence[str] = VICTIMS) -> list[Moment]:
    """Moments between click and Active, each as likely as any; victims in turn."""
    drawn = random.Random(seed)  # noqa: S311 (repeatable on purpose)
    return [Moment(victims[number % len(victims)], drawn.random()) for number in range(count)]


def summary(rows: Sequence[Row]) -> str:
    """The last line: moments at which somebody was killed, and how many orders were lost."""
    killed = [row for row in rows if row.end != NOT_REACHED]
    return f"kills: {len(killed)} moments, {sum(row.end == 'lost' for row in killed)} lost"


_ENDS = (judge.FINISHED, judge.UNDONE)


def _in_time(condition: Callable[[], bool], until: float) -> bool:
    try:
        wait_until(condition, "", seconds=max(0.0, until - time.monotonic()))
    except NotReadyError:
        return False
    return True


def _last(desk: Desk) -> list[str]:
    """The last lines of an agent's log."""
    return desk.agent.log().splitlines()[-6:]

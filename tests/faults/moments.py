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

    from tests.faults.hands import Hands
    from tests.faults.scene import Desk, Scene

END_SECONDS = 60.0
"""An order is at its end that long after what was killed runs again; of the processes' own time."""
_STARVED_AT_MOST = 5 * END_SECONDS
_QUIET_SECONDS = 3.0
"""How long an order that has not begun is looked at: it stays so."""
_DRAWS_AT_MOST = 20
"""How often a moment is drawn anew at which its victim wasn't there: a window is open for a part of the way."""
_AGAIN_SECONDS = 1.5
"""After a restart: in these an agent or portal takes up what it left."""
NOT_REACHED = "not reached"


class Moment(NamedTuple):
    """When to kill whom.

    Attributes:
        victim: one of ``VICTIMS``.
        at: a boundary, or a share (0 to 1) of the time between click and Active.
        again: seconds after it runs again, when it is killed once more; None: never.
    """

    victim: str
    at: Boundary | float
    again: float | None = None

    def __str__(self) -> str:
        text = str(self.at) if isinstance(self.at, Boundary) else f"at {self.at:.3f} of the way"
        return text if self.again is None else f"{text}, again after {self.again:.2f} s"


class Row(NamedTuple):
    """What came of a moment.

    Attributes:
        end: ``finished``, ``undone``, ``not begun``, ``lost``, or ``not reached``: nobody was killed.
        seconds: from the victim's restart to the end.
        faults: what is wrong; nothing when the order is not lost.
        starved: seconds of these in which a process was ready to run and got no processor.
    """

    moment: Moment
    end: str
    seconds: float
    faults: list[str]
    starved: float = 0.0

    def __str__(self) -> str:
        text = f"{self.moment!s:64} {self.moment.victim:7} {self.end:11} {self.seconds:5.1f} s"
        if self.seconds > END_SECONDS:
            text += f" ({self.starved:.1f} s without a processor)"
        return "\n    ".join([text, *self.faults])


class Clean(NamedTuple):
    """A run without a kill.

    Attributes:
        boundaries: all that both journals passed.
        seconds: from click to Active.
    """

    boundaries: list[Boundary]
    seconds: float


class Patience:
    """How long an order may take: ``END_SECONDS`` of the processes' own time.

    What a busy machine keeps them waiting for a processor doesn't count, up to a bound.
    """

    def __init__(self, starved: Callable[[], float]) -> None:
        """Begin.

        Args:
            starved: seconds that the processes have waited for a processor so far.
        """
        self._ask = starved
        self._before = starved()
        self.begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.begun

    @property
    def starved(self) -> float:
        """Seconds since then in which a process was ready and didn't run."""
        return max(0.0, self._ask() - self._before)

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """Whether a condition comes true in time."""
        while self.seconds - min(self.starved, _STARVED_AT_MOST) < END_SECONDS:
            try:
                wait_until(condition, "", seconds=1.0)
            except NotReadyError:
                continue
            return True
        return condition()


class Kills:
    """Carries moments out, on one scene.

    Attributes:
        scene: the processes.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._plans = 0
        self._clean: dict[bool, Clean] = {}
        self._proved: set[bytes] = set()

    def clean(self, *, window: bool) -> Clean:
        """Run once without a kill.

        Raises:
            AssertionError: even so the order isn't finished.
        """
        if window not in self._clean:
            with self.scene.desk() as desk:
                self._equip(desk)
                patience, end = self.order(desk, None, window=window)
                seconds = patience.seconds
                assert end == judge.FINISHED, judge.where(self.scene, desk)
                assert self.faults(desk, end) == []
                self._clean[window] = Clean(self.scene.plan.trace(), seconds)
            self.scene.leave()
        return self._clean[window]

    def run(self, moments: Iterable[Moment]) -> Iterator[Row]:
        """Carry moments out; one of chance at which nobody could be killed is drawn anew, and has a row of its own."""
        for moment in moments:
            draws = redrawn(moment)
            row = self._carry_out(moment)
            yield row
            while row.end == NOT_REACHED and (another := next(draws, None)) is not None:
                row = self._carry_out(another)
                yield row

    def _carry_out(self, moment: Moment) -> Row:
        if isinstance(moment.at, float):
            self.clean(window=moment.victim == "window")  # how long the way is
        with self.scene.desk() as desk:
            self._equip(desk)
            row = self._row(desk, moment)
        self.scene.leave()
        return row

    def _equip(self, desk: Desk) -> None:
        """Make the card that the errand is about, undisturbed."""
        if self.scene.errand.before is not None:
            hands = self.scene.hands(desk, self.scene.link_to_card(), window=False)
            patience = Patience(lambda: self.scene.starved(desk))
            hands.begin()
            end = self._end(desk, patience, hands)
            hands.stop()
            assert end == judge.FINISHED, judge.where(self.scene, desk)
            self.scene.card_is_there()

    def _row(self, desk: Desk, moment: Moment) -> Row:
        window = moment.victim == "window"
        patience, end = self.order(desk, moment, window=window)
        if end == NOT_REACHED:
            return Row(moment, end, 0.0, [])
        in_time = bool(end) and patience.wait_for(lambda: self.fits(end))
        seconds, starved = patience.seconds, patience.starved
        if not end:
            found = [judge.where(self.scene, desk)]
        elif not in_time:
            found = ["the readers don't show what is there"]
        else:
            found = []
        if end == judge.NOT_BEGUN and _claimed(self.scene.plan.trace()):
            found.append("a claim was written down, and its order never began")
        found += self.faults(desk, end) if end else []
        if found:
            return Row(moment, "lost", seconds, [*found, *_last(desk)], starved)
        return Row(moment, end, seconds, [], starved)

    def fits(self, end: str) -> bool:
        """Whether the readers show what must be there, see `judge.readers_fit`."""
        return judge.readers_fit(self.scene, end)

    def faults(self, desk: Desk, end: str) -> list[str]:
        """What contradicts an order's end, see `judge.faults`; what its card proved is remembered."""
        pin = self.scene.errand.pin(finished=end == judge.FINISHED)
        proved = set() if pin is None else judge.proved_on(desk, pin)
        self._proved |= proved
        return judge.faults(self.scene, desk, end, proved)

    def left_over(self) -> list[str]:
        """What contradicts the CA's own list after all moments, see `judge.left_over`."""
        return judge.left_over(self.scene, self._proved)

    def order(self, desk: Desk, moment: Moment | None, *, window: bool) -> tuple[Patience, str]:
        """One order: the patience it took since it was begun or what was killed ran again; and its end."""
        scene = self.scene
        hands = scene.hands(desk, scene.link(), window=window)
        self._arm(desk, moment)
        patience = Patience(lambda: scene.starved(desk))
        hands.begin()
        try:
            if moment is None:
                return patience, self._end(desk, patience, hands)
            if not self._killed(desk, moment, patience):
                return patience, NOT_REACHED
            scene.start_again(moment.victim, desk)
            if moment.again is not None:  # while it is taking up what the first kill left
                time.sleep(moment.again)
                os.kill(scene.pids(desk)[moment.victim], signal.SIGKILL)
                scene.start_again(moment.victim, desk)
            patience = Patience(lambda: scene.starved(desk))
            return patience, self._end(desk, patience, hands)
        finally:
            hands.stop()
            scene.plan.disarm()

    def _arm(self, desk: Desk, moment: Moment | None) -> None:
        self._plans += 1
        at = moment.at if moment is not None and isinstance(moment.at, Boundary) else None
        victim = "" if moment is None else moment.victim
        self.scene.plan.arm(Plan(self._plans, at, victim, self.scene.pids(desk)))

    def _killed(self, desk: Desk, moment: Moment, patience: Patience) -> bool:
        """Whether the moment came and somebody was killed."""
        if isinstance(moment.at, float):
            way = moment.at * self.clean(window=moment.victim == "window").seconds
            time.sleep(max(0.0, way - patience.seconds))
            pids = self.scene.pids(desk)
            pid = window_of(pids["agent"]) if moment.victim == "window" else pids[moment.victim]
            if pid:
                os.kill(pid, signal.SIGKILL)
            return bool(pid)
        come = patience.wait_for(
            lambda: self.scene.plan.fired() is not None or judge.end_of(self.scene, desk) in _ENDS
        )
        assert come, f"neither the moment nor the order's end: {judge.where(self.scene, desk)}"
        fired = self.scene.plan.fired()
        return fired is not None and fired.pid != 0

    def _end(self, desk: Desk, patience: Patience, hands: Hands) -> str:
        """How the order ends, as soon as it has; empty when it hasn't in time.

        An order hasn't begun only when the person has been answered, and nothing comes after that.
        """
        quiet = time.monotonic() + _QUIET_SECONDS

        def ended() -> bool:
            end = judge.end_of(self.scene, desk)
            return bool(end) and (end != judge.NOT_BEGUN or (time.monotonic() > quiet and not hands.busy))

        return judge.end_of(self.scene, desk) if patience.wait_for(ended) else ""


def at_boundaries(boundaries: Sequence[Boundary], victims: Sequence[str] = VICTIMS) -> list[Moment]:
    """Every victim at every boundary."""
    return [Moment(victim, boundary) for boundary in boundaries for victim in victims]


def uniform(seed: int, count: int, victims: Sequence[str] = VICTIMS) -> list[Moment]:
    """Moments between click and Active, each as likely as any; victims in turn."""
    drawn = random.Random(seed)  # noqa: S311 (repeatable on purpose)
    return [Moment(victims[number % len(victims)], drawn.random()) for number in range(count)]


def redrawn(moment: Moment) -> Iterator[Moment]:
    """Moments in the place of one of chance whose victim wasn't there, always the same ones; none for a boundary."""
    if not isinstance(moment.at, float):
        return
    drawn = random.Random(f"{moment.victim} {moment.at!r}")  # noqa: S311 (repeatable on purpose)
    for _ in range(_DRAWS_AT_MOST):
        yield moment._replace(at=drawn.random())


def twice(
    seed: int, count: int, boundaries: Sequence[Boundary], victims: Sequence[str] = VICTIMS
) -> list[Moment]:
    """Boundaries of chance, and a second kill of the same victim soon after it runs again; victims in turn.

    A window is nobody's to start again: it is left out.
    """
    drawn = random.Random(seed)  # noqa: S311 (repeatable on purpose)
    started = [victim for victim in victims if victim != "window"]
    return [
        Moment(started[number % len(started)], drawn.choice(boundaries), drawn.uniform(0, _AGAIN_SECONDS))
        for number in range(count if started and boundaries else 0)
    ]


def summary(rows: Sequence[Row], left_over: Sequence[str] = ()) -> str:
    """The last line: moments at which somebody was killed, and how many orders were lost.

    Args:
        rows: what came of each moment.
        left_over: what contradicts the CA's own list after all of them; each counts as an order lost.
    """
    killed = [row for row in rows if row.end != NOT_REACHED]
    lost = sum(row.end == "lost" for row in killed) + len(left_over)
    return f"kills: {len(killed)} moments, {lost} lost"


_ENDS = (judge.FINISHED, judge.UNDONE)


def _claimed(passed: Sequence[Boundary]) -> bool:
    """Whether the agent has written down that it claims a code."""
    return any(at.side == "agent" and at.name == "open_claim" and at.phase == "after" for at in passed)


def _last(desk: Desk) -> list[str]:
    """The last lines of an agent's log."""
    return desk.agent.log().splitlines()[-6:]

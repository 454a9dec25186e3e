"""What a test tells the hook inside agent and portal: at which boundary of a journal whom to kill.

The test writes `plan.json` into a folder, the hook (`tests.faults.hook`) reads it at every boundary; the hook answers
with the file `fired`, and with a line in `trace` for each boundary it came by.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

Side = Literal["agent", "portal"]
Phase = Literal["before", "after"]
VICTIMS: Final = ("agent", "window", "portal", "pcscd")


class Boundary(msgspec.Struct, frozen=True):
    """One side of one transaction of a journal.

    Attributes:
        side: whose journal.
        name: what is written, as the hook calls it.
        nth: 1 for the first of this name since the plan was made.
        phase: ``before``: all is said, nothing is committed; ``after``: it is on the disk, and nothing else happened.
    """

    side: Side
    name: str
    nth: int
    phase: Phase

    def __str__(self) -> str:
        return f"{self.phase} {self.side}: {self.name} ({self.nth})"


class Plan(msgspec.Struct, frozen=True):
    """What is to happen.

    Attributes:
        number: another for each plan: counting begins anew.
        at: when to kill; never when None.
        victim: whom, see ``VICTIMS``.
        pids: process ids of agent, portal and pcscd.
    """

    number: int
    at: Boundary | None
    victim: str
    pids: dict[str, int]


class Fired(NamedTuple):
    """The plan was carried out.

    Attributes:
        pid: who was killed; 0 when there was no such process at that moment.
    """

    pid: int


class PlanFolder:
    """Plan, trace and answer, as files."""

    def __init__(self, folder: Path) -> None:
        """Use an existing folder."""
        self._plan = folder / "plan.json"
        self._trace = folder / "trace"
        self._fired = folder / "fired"

    # --- the test's side

    def arm(self, plan: Plan) -> None:
        """Begin a plan; what the one before left is removed."""
        for left in (self._trace, self._fired):
            left.unlink(missing_ok=True)
        new = self._plan.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(plan))
        new.replace(self._plan)

    def disarm(self) -> None:
        """From now on boundaries are only passed."""
        self._plan.unlink(missing_ok=True)

    def fired(self) -> Fired | None:
        """Whether the plan was carried out."""
        try:
            return Fired(int(self._fired.read_text()))
        except (FileNotFoundError, ValueError):
            return None

    def trace(self) -> list[Boundary]:
        """The boundaries that were passed since the plan was made, in their order."""
        lines = self._trace.read_bytes().splitlines() if self._trace.exists() else []
        return [msgspec.json.decode(line, type=Boundary) for line in lines]

    # --- the hook's side

    def read(self) -> Plan | None:
        """The plan, if there is one."""
        try:
            return msgspec.json.decode(self._plan.read_bytes(), type=Plan)
        except FileNotFoundError:
            return None

    def passed(self, boundary: Boundary) -> None:
        """Write that a boundary was reached."""
        line = os.open(self._trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(line, msgspec.json.encode(boundary) + b"\n")
        os.close(line)

    def say_fired(self, pid: int) -> bool:
        """Write, before killing, who is killed; False when the plan was carried out before."""
        try:
            with self._fired.open("x") as stream:
                stream.write(str(pid))
        except FileExistsError:
            return False
        return True

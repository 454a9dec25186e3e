"""What the crash matrix does to a portal: at which step, and what; as files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

Fault = Literal["kill", "cut", "refuse", "hang", "late", "twice", "lose"]
Phase = Literal["before", "after"]
CA_FAULTS: Final[tuple[Fault, ...]] = ("refuse", "hang", "late", "twice", "lose")
ISSUE: Final = "CA: issue"
RELEASE: Final = "CA: release"


class Point(msgspec.Struct, frozen=True):
    """A step of an issuing process.

    Attributes:
        name: the transaction, by the method that makes it; or ``ISSUE`` or ``RELEASE``: a call of the CA.
        nth: 1 for the first of this name in an order.
        phase: of a transaction: ``before`` its commit or ``after`` it.
    """

    name: str
    nth: int
    phase: Phase = "before"

    def __str__(self) -> str:
        return f"{self.name} ({self.nth}) {self.phase}"


class Plan(msgspec.Struct, frozen=True):
    """One order's plan.

    Attributes:
        number: another for each order: counting begins anew.
        at: where; None for an order that isn't disturbed.
        fault: what happens there.
    """

    number: int
    at: Point | None = None
    fault: Fault = "kill"


class CrashFolder:
    """Plan and trace, as files."""

    def __init__(self, folder: Path) -> None:
        """Use an existing folder."""
        self._plan = folder / "plan.json"
        self._trace = folder / "trace"
        self._fired = folder / "fired"
        self._late = folder / "late"

    def arm(self, plan: Plan) -> None:
        """Begin a plan; what the one before left is removed."""
        for left in (self._trace, self._fired, self._late):
            left.unlink(missing_ok=True)
        new = self._plan.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(plan))
        new.replace(self._plan)

    def disarm(self) -> None:
        """From now on nothing happens."""
        self._plan.unlink(missing_ok=True)

    def read(self) -> Plan | None:
        """The plan, if there is one."""
        try:
            return msgspec.json.decode(self._plan.read_bytes(), type=Plan)
        except FileNotFoundError:
            return None

    def passed(self, point: Point) -> None:
        """Write that a step was reached."""
        line = os.open(self._trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(line, msgspec.json.encode(point) + b"\n")
        os.close(line)

    def trace(self) -> list[Point]:
        """The steps that were reached, in their order."""
        lines = self._trace.read_bytes().splitlines() if self._trace.exists() else []
        return [msgspec.json.decode(line, type=Point) for line in lines]

    def fire(self) -> bool:
        """Write that the plan is carried out now; False when it was before."""
        try:
            self._fired.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    @property
    def fired(self) -> bool:
        """Whether the plan was carried out."""
        return self._fired.exists()

    def say_late(self) -> None:
        """Write that the CA's late answer is there."""
        self._late.touch()

    @property
    def late(self) -> bool:
        """Whether the CA's late answer is there."""
        return self._late.exists()

"""How the engine's parts hand back what they did."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from agent.vsc.apdu import StatusWord
from agent.vsc.state import PersistentState, VolatileState


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a command.

    Attributes:
        state: the persistent state from now on.
        volatile: the volatile state from now on.
        data: the answer without its status word.
        status: the status word.
    """

    state: PersistentState
    volatile: VolatileState
    data: bytes = field(default=b"", repr=False)
    status: int = StatusWord.OK


Step = Generator[PersistentState, None, Outcome]
"""A command under way. What it yields must be on the disk before it is resumed; it ends with the outcome."""


def run_step(step: Step, make_durable: Callable[[PersistentState], None]) -> Outcome:
    """Run a command to its end.

    Args:
        step: the command.
        make_durable: brings a state to the disk; what it raises ends the command there.
    """
    while True:
        try:
            state = next(step)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        make_durable(state)

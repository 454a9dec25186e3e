"""How the engine's parts hand back what they did."""

from __future__ import annotations

from collections.abc import Callable, Generator

import msgspec

from agent.vsc.apdu import StatusWord
from agent.vsc.state import PersistentState, VolatileState


class Outcome(msgspec.Struct, frozen=True):
    """The end of a command.

    Attributes:
        state: the persistent state from now on.
        volatile: the volatile state from now on.
        data: the answer without its status word.
        status: the status word.
    """

    state: PersistentState
    volatile: VolatileState
    data: bytes = b""
    status: int = StatusWord.OK

    def __repr__(self) -> str:
        """The status word only: the data may be what a key was used for."""
        return f"Outcome({self.status:04X}, {len(self.data)} bytes)"


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

"""State graphs: which states there are, what may follow, and why.

The rules of a table (``StateGraph``):

* an object is made in the start state;
* it moves only along a transition of the table; anything else is refused, and the refusal names the states
  from which it would have been possible;
* a transition may name the reasons for which it is taken; another reason is refused as well;
* a state without a way out is final; every other state reaches a final one (a test walks the tables).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from portal.errors import WrongReason, WrongState

if TYPE_CHECKING:
    from collections.abc import Mapping

S = TypeVar("S", bound=str)


class Why(enum.StrEnum):
    """Why an object's state changes; kept in the audit log."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REJECTED = "rejected"
    ABORTED = "aborted"
    PRODUCED = "produced"
    PRODUCTION_FAILED = "production failed"
    CREATED = "created"
    CREATION_FAILED = "creation failed"
    ACTIVATED = "activated"
    ASSIGNED = "assigned"
    EXTENDED = "extended"
    ENCODING_FAILED = "encoding failed"
    """a physical card was changed, and the order that did it was undone: a fresh one finishes the card"""
    WITHDRAWN = "withdrawn"
    DEACTIVATED = "deactivated"
    REACTIVATED = "reactivated"
    LOCKED = "locked"
    DELETED = "deleted"
    LOST = "lost"
    EXPIRED = "expired"
    TASK_SUCCEEDED = "task succeeded"
    TASK_FAILED = "task failed"
    LEFT_IN_ISSUED = "left in Issued"
    RENEWED = "renewed"
    CHANGE_STATE = "change state"
    """a process step says so by itself"""
    IN_CA = "changed in the CA"
    """the CA has confirmed what was asked of it; why it was asked stands where it was asked"""


ALWAYS_GOOD: Final = frozenset({Why.CHANGE_STATE, Why.IN_CA})
"""Reasons that every transition may have, beside its own."""


class StateGraph(Generic[S]):
    """One table of states.

    Attributes:
        kind: kind of object, as ``portal.errors.WrongState`` names it.
        start: the state an object is made in.
        transitions: state to the states that may follow.
        reasons: state and following state to the reasons for that transition; empty: any.
        final: states without a way out.
    """

    def __init__(self, kind: str, start: S, table: Mapping[S, Mapping[S, tuple[Why, ...]]]) -> None:
        self.kind = kind
        self.start = start
        self.transitions = {state: frozenset(after) for state, after in table.items()}
        self.reasons = {
            (state, follows): frozenset(reasons)
            for state, after in table.items()
            for follows, reasons in after.items()
        }
        self.final = frozenset(state for state, after in self.transitions.items() if not after)

    @property
    def states(self) -> frozenset[S]:
        """All states of the table."""
        return frozenset(self.transitions)

    def before(self, target: S) -> frozenset[S]:
        """The states from which ``target`` can be reached in one step."""
        return frozenset(state for state, after in self.transitions.items() if target in after)

    def check(self, current: S, target: S, why: Why | None = None) -> S:
        """Let a transition through.

        Args:
            current: the state the object is in.
            target: the state it is to be in.
            why: the reason, where one is kept.

        Returns:
            ``target``.

        Raises:
            WrongState: the table has no such transition.
            WrongReason: it has, and for other reasons.
        """
        if target not in self.transitions.get(current, ()):
            raise WrongState(self.kind, str(current), (str(state) for state in self.before(target)))
        reasons = self.reasons[current, target]
        if why is not None and why not in ALWAYS_GOOD and reasons and why not in reasons:
            raise WrongReason(self.kind, f"{current} > {target}", why.value, (str(item) for item in reasons))
        return target

    def stuck(self) -> frozenset[S]:
        """States from which no final one is reached: a table that is right has none."""
        ends = set(self.final)
        while grown := {state for state, after in self.transitions.items() if after & ends} - ends:
            ends |= grown
        return self.states - ends

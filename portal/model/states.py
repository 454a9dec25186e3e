"""The states of everything that lives long: one table for each kind of object.

The rules of a table (``StateGraph``):

* an object is made in the start state;
* it moves only along a transition of the table; anything else is refused, and the refusal names the states
  from which it would have been possible;
* a state without a way out is final; every other state reaches a final one (a test walks the tables).

Card *Issued* (produced, waits for activation) and certificate *Issued* (at the CA, not yet proved on a card) are
two different things, and so two enums.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from portal.errors import WrongState

if TYPE_CHECKING:
    from collections.abc import Mapping

S = TypeVar("S", bound=enum.StrEnum)


class StateGraph(Generic[S]):
    """One table of states.

    Attributes:
        kind: kind of object, as ``portal.errors.WrongState`` names it.
        start: the state an object is made in.
        transitions: state to the states that may follow.
        final: states without a way out.
    """

    def __init__(self, kind: str, start: S, transitions: Mapping[S, frozenset[S]]) -> None:
        self.kind = kind
        self.start = start
        self.transitions = dict(transitions)
        self.final = frozenset(state for state, after in self.transitions.items() if not after)

    @property
    def states(self) -> frozenset[S]:
        """All states of the table."""
        return frozenset(self.transitions)

    def before(self, target: S) -> frozenset[S]:
        """The states from which ``target`` can be reached in one step."""
        return frozenset(state for state, after in self.transitions.items() if target in after)

    def check(self, current: S, target: S) -> S:
        """Let a transition through.

        Returns:
            ``target``.

        Raises:
            WrongState: the table has no such transition.
        """
        if target not in self.transitions[current]:
            raise WrongState(self.kind, current.value, (state.value for state in self.before(target)))
        return target


class CardState(enum.StrEnum):
    """States of a card."""

    REGISTERED = "Registered"
    REQUESTED = "Requested"
    ABORTED = "Aborted"
    APPROVED = "Approved"
    REJECTED = "Rejected"
    FAILED = "Failed"
    ISSUED = "Issued"
    ACTIVE = "Active"
    INACTIVE = "Inactive"
    LOCKED = "Locked"
    EXPIRED = "Expired"


class TemporaryCardState(enum.StrEnum):
    """States of a temporary card."""

    REQUESTED = "Requested"
    ABORTED = "Aborted"
    FAILED = "Failed"
    UNASSIGNED = "Unassigned"
    ASSIGNED = "Assigned"
    EXPIRED = "Expired"
    LOCKED = "Locked"


class VirtualSmartCardState(enum.StrEnum):
    """States of a virtual smart card. ``REGISTERED`` is seen only when creation went wrong."""

    REGISTERED = "Registered"
    ACTIVE = "Active"
    INACTIVE = "Inactive"
    LOCKED = "Locked"
    REPLACED = "Replaced"
    EXPIRED = "Expired"


class MobileIdState(enum.StrEnum):
    """States of a mobile ID. ``REGISTERED`` is seen only when creation went wrong."""

    REGISTERED = "Registered"
    ACTIVE = "Active"
    INACTIVE = "Inactive"
    LOCKED = "Locked"
    EXPIRED = "Expired"


class CertificateState(enum.StrEnum):
    """States of a certificate as the portal shows them; ``ISSUED`` is internal, ``VALID`` the start state."""

    ISSUED = "Issued"
    VALID = "Valid"
    ON_HOLD = "On Hold"
    REVOKED = "Revoked"
    EXPIRED = "Expired"


class CaState(enum.StrEnum):
    """What the CA says of a certificate, beside its state in the portal."""

    GOOD = "good"
    HELD = "held"
    REVOKED = "revoked"


class OrderState(enum.StrEnum):
    """States of an order at the portal: ``protocol.messages.OrderState``, and ``WAITING`` before the claim.

    ``FINISHING`` and ``UNDOING`` are won once, by compare-and-swap, and decide how the order ends.
    """

    WAITING = "waiting"
    RUNNING = "running"
    FINISHING = "finishing"
    FINISHED = "finished"
    UNDOING = "undoing"
    UNDONE = "undone"


class ProcessState(enum.StrEnum):
    """States of a process instance."""

    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"


class UserState(enum.StrEnum):
    """States of a user."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    LOCKED = "locked"


class Role(enum.StrEnum):
    """What a user may do in the portal."""

    SELF_SERVICE = "self-service"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMINISTRATOR = "administrator"


def _to(*states: S) -> frozenset[S]:
    return frozenset(states)


_C = CardState
CARD: Final = StateGraph(
    "card",
    _C.REGISTERED,
    {
        _C.REGISTERED: _to(_C.REQUESTED),
        _C.REQUESTED: _to(_C.APPROVED, _C.REJECTED, _C.ABORTED),
        _C.APPROVED: _to(_C.ISSUED, _C.FAILED, _C.ABORTED),
        _C.FAILED: _to(_C.ISSUED, _C.ABORTED),
        _C.ISSUED: _to(_C.ACTIVE, _C.LOCKED, _C.EXPIRED),
        _C.ACTIVE: _to(_C.INACTIVE, _C.LOCKED, _C.EXPIRED),
        _C.INACTIVE: _to(_C.ACTIVE, _C.LOCKED, _C.EXPIRED),
        _C.ABORTED: frozenset(),
        _C.REJECTED: frozenset(),
        _C.LOCKED: frozenset(),
        _C.EXPIRED: frozenset(),
    },
)
_T = TemporaryCardState
TEMPORARY_CARD: Final = StateGraph(
    "temporary_card",
    _T.REQUESTED,
    {
        _T.REQUESTED: _to(_T.UNASSIGNED, _T.FAILED, _T.ABORTED),
        _T.FAILED: _to(_T.UNASSIGNED),
        _T.UNASSIGNED: _to(_T.ASSIGNED, _T.LOCKED),
        # assigned to assigned: the card is extended
        _T.ASSIGNED: _to(_T.UNASSIGNED, _T.EXPIRED, _T.ASSIGNED, _T.LOCKED),
        _T.EXPIRED: _to(_T.UNASSIGNED),
        _T.ABORTED: frozenset(),
        _T.LOCKED: frozenset(),
    },
)
_V = VirtualSmartCardState
VIRTUAL_SMART_CARD: Final = StateGraph(
    "virtual_smart_card",
    _V.REGISTERED,
    {
        _V.REGISTERED: _to(_V.ACTIVE, _V.LOCKED),
        _V.ACTIVE: _to(_V.INACTIVE, _V.LOCKED, _V.EXPIRED, _V.REPLACED),
        _V.INACTIVE: _to(_V.ACTIVE, _V.LOCKED, _V.EXPIRED, _V.REPLACED),
        _V.LOCKED: frozenset(),
        _V.REPLACED: frozenset(),
        _V.EXPIRED: frozenset(),
    },
)
_M = MobileIdState
MOBILE_ID: Final = StateGraph(
    "mobile_id",
    _M.REGISTERED,
    {
        _M.REGISTERED: _to(_M.ACTIVE, _M.LOCKED),
        _M.ACTIVE: _to(_M.INACTIVE, _M.LOCKED, _M.EXPIRED),
        _M.INACTIVE: _to(_M.ACTIVE, _M.LOCKED, _M.EXPIRED),
        _M.LOCKED: frozenset(),
        _M.EXPIRED: frozenset(),
    },
)
_X = CertificateState
CERTIFICATE: Final = StateGraph(
    "certificate",
    _X.ISSUED,
    {
        _X.ISSUED: _to(_X.VALID, _X.REVOKED, _X.EXPIRED),
        _X.VALID: _to(_X.ON_HOLD, _X.REVOKED, _X.EXPIRED),
        _X.ON_HOLD: _to(_X.VALID, _X.REVOKED, _X.EXPIRED),
        _X.REVOKED: frozenset(),
        _X.EXPIRED: frozenset(),
    },
)
_O = OrderState
ORDER: Final = StateGraph(
    "order",
    _O.WAITING,
    {
        _O.WAITING: _to(_O.RUNNING, _O.UNDONE),
        _O.RUNNING: _to(_O.FINISHING, _O.UNDOING),
        _O.FINISHING: _to(_O.FINISHED),
        _O.UNDOING: _to(_O.UNDONE),
        _O.FINISHED: frozenset(),
        _O.UNDONE: frozenset(),
    },
)
_P = ProcessState
PROCESS: Final = StateGraph(
    "process",
    _P.RUNNING,
    {
        _P.RUNNING: _to(_P.FINISHED, _P.CANCELLED, _P.FAILED),
        _P.FINISHED: frozenset(),
        _P.CANCELLED: frozenset(),
        _P.FAILED: frozenset(),
    },
)

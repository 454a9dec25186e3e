"""The states of everything that lives long: one table for each kind of object (``portal.model.graphs``).

Card *Issued* (produced, waits for activation) and certificate *Issued* (at the CA, not yet proved on a card) are
two different things, and so two enums. Certificate graphs can be configured: the table here is the one that is built in
(``portal.model.certificate_model``).
"""

from __future__ import annotations

import enum
from typing import Final, TypeVar

from portal.model.graphs import StateGraph, Why

S = TypeVar("S", bound=enum.StrEnum)


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


def certificate_state(name: str) -> str:
    """The state of this name, as a ``CertificateState`` where it is one that is built in."""
    return CertificateState(name) if name in frozenset(CertificateState) else name


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


def _any(*states: S) -> dict[S, tuple[Why, ...]]:
    """Transitions that are taken for any reason."""
    return dict.fromkeys(states, ())


_C = CardState
CARD: Final = StateGraph(
    "card",
    _C.REGISTERED,
    {
        _C.REGISTERED: {_C.REQUESTED: (Why.REQUESTED,)},
        _C.REQUESTED: {
            _C.APPROVED: (Why.APPROVED,),
            _C.REJECTED: (Why.REJECTED,),
            _C.ABORTED: (Why.ABORTED,),
        },
        _C.APPROVED: {
            _C.ISSUED: (Why.PRODUCED,),
            _C.FAILED: (Why.PRODUCTION_FAILED,),
            _C.ABORTED: (Why.ABORTED,),
        },
        _C.FAILED: {_C.ISSUED: (Why.PRODUCED,), _C.ABORTED: (Why.ABORTED,)},
        _C.ISSUED: {_C.ACTIVE: (Why.ACTIVATED,), _C.LOCKED: (Why.LOCKED,), _C.EXPIRED: (Why.EXPIRED,)},
        _C.ACTIVE: {_C.INACTIVE: (Why.DEACTIVATED,), _C.LOCKED: (Why.LOCKED,), _C.EXPIRED: (Why.EXPIRED,)},
        _C.INACTIVE: {_C.ACTIVE: (Why.REACTIVATED,), _C.LOCKED: (Why.LOCKED,), _C.EXPIRED: (Why.EXPIRED,)},
        _C.ABORTED: {},
        _C.REJECTED: {},
        _C.LOCKED: {},
        _C.EXPIRED: {},
    },
)
_T = TemporaryCardState
TEMPORARY_CARD: Final = StateGraph(
    "temporary_card",
    _T.REQUESTED,
    {
        _T.REQUESTED: {
            _T.UNASSIGNED: (Why.PRODUCED,),
            _T.FAILED: (Why.PRODUCTION_FAILED,),
            _T.ABORTED: (Why.ABORTED,),
        },
        _T.FAILED: {_T.UNASSIGNED: (Why.PRODUCED,), _T.ASSIGNED: (Why.EXTENDED,), _T.LOCKED: (Why.LOCKED,)},
        _T.UNASSIGNED: {
            _T.ASSIGNED: (Why.ASSIGNED,),
            _T.UNASSIGNED: (Why.PRODUCED,),
            _T.FAILED: (Why.PRODUCTION_FAILED,),
            _T.LOCKED: (Why.LOCKED,),
        },
        _T.ASSIGNED: {
            _T.UNASSIGNED: (Why.WITHDRAWN,),
            _T.EXPIRED: (Why.EXPIRED,),
            _T.ASSIGNED: (Why.EXTENDED,),
            _T.FAILED: (Why.ENCODING_FAILED,),
            _T.LOCKED: (Why.LOCKED,),
        },
        _T.EXPIRED: {_T.UNASSIGNED: (Why.WITHDRAWN,)},
        _T.ABORTED: {},
        _T.LOCKED: {},
    },
)
_V = VirtualSmartCardState
_VSC_ENDS: Final = {
    _V.LOCKED: (Why.LOCKED, Why.DELETED),
    _V.EXPIRED: (Why.EXPIRED,),
    _V.REPLACED: (Why.LOST,),
}
VIRTUAL_SMART_CARD: Final = StateGraph(
    "virtual_smart_card",
    _V.REGISTERED,
    {
        _V.REGISTERED: {
            _V.ACTIVE: (Why.CREATED,),
            _V.LOCKED: (Why.CREATION_FAILED, Why.LOCKED, Why.DELETED),
        },
        _V.ACTIVE: {_V.INACTIVE: (Why.DEACTIVATED,), **_VSC_ENDS},
        _V.INACTIVE: {_V.ACTIVE: (Why.REACTIVATED,), **_VSC_ENDS},
        _V.LOCKED: {},
        _V.REPLACED: {},
        _V.EXPIRED: {},
    },
)
_M = MobileIdState
_MOBILE_ENDS: Final = {_M.LOCKED: (Why.LOCKED, Why.DELETED), _M.EXPIRED: (Why.EXPIRED,)}
MOBILE_ID: Final = StateGraph(
    "mobile_id",
    _M.REGISTERED,
    {
        _M.REGISTERED: {
            _M.ACTIVE: (Why.CREATED,),
            _M.LOCKED: (Why.CREATION_FAILED, Why.LOCKED, Why.DELETED),
        },
        _M.ACTIVE: {_M.INACTIVE: (Why.DEACTIVATED,), **_MOBILE_ENDS},
        _M.INACTIVE: {_M.ACTIVE: (Why.REACTIVATED,), **_MOBILE_ENDS},
        _M.LOCKED: {},
        _M.EXPIRED: {},
    },
)
_X = CertificateState
_REVOKED_FOR: Final = (
    Why.LOCKED,
    Why.DELETED,
    Why.LOST,
    Why.WITHDRAWN,
    Why.RENEWED,
    Why.EXTENDED,
    Why.TASK_FAILED,
)
CERTIFICATE: Final = StateGraph(
    "certificate",
    _X.ISSUED,
    {
        _X.ISSUED: {
            _X.VALID: (Why.TASK_SUCCEEDED,),
            _X.REVOKED: (Why.TASK_FAILED, Why.LEFT_IN_ISSUED),
            _X.EXPIRED: (Why.EXPIRED,),
        },
        _X.VALID: {
            _X.ON_HOLD: (Why.DEACTIVATED,),
            _X.REVOKED: _REVOKED_FOR,
            _X.EXPIRED: (Why.EXPIRED,),
        },
        _X.ON_HOLD: {
            _X.VALID: (Why.REACTIVATED,),
            _X.REVOKED: _REVOKED_FOR,
            _X.EXPIRED: (Why.EXPIRED,),
        },
        _X.REVOKED: {},
        _X.EXPIRED: {},
    },
)
_O = OrderState
ORDER: Final = StateGraph(
    "order",
    _O.WAITING,
    {
        _O.WAITING: _any(_O.RUNNING, _O.UNDONE),
        _O.RUNNING: _any(_O.FINISHING, _O.UNDOING),
        _O.FINISHING: _any(_O.FINISHED),
        _O.UNDOING: _any(_O.UNDONE),
        _O.FINISHED: {},
        _O.UNDONE: {},
    },
)
_P = ProcessState
PROCESS: Final = StateGraph(
    "process",
    _P.RUNNING,
    {
        _P.RUNNING: _any(_P.FINISHED, _P.CANCELLED, _P.FAILED),
        _P.FINISHED: {},
        _P.CANCELLED: {},
        _P.FAILED: {},
    },
)
OF_CARDS: Final = {graph.kind: graph for graph in (CARD, TEMPORARY_CARD, VIRTUAL_SMART_CARD, MOBILE_ID)}
"""Kind of card to its graph."""

"""A connection's state without I/O: frames in, events out, and which method is possible when.

One table per kind of connection (``_RULES``): channel (the agent calls the portal) and loopback (the page calls
the agent). Only the hello is possible first. Both sides keep the same table, so that neither sends what the
other must refuse.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec import UNSET

from protocol import codec
from protocol.errors import DecodeError, InlayError, from_wire
from protocol.messages import (
    CHANNEL_METHODS,
    LOOPBACK_METHODS,
    LOOPBACK_NOTIFICATIONS,
    PROTOCOL_VERSIONS,
    ErrorData,
    ErrorObject,
    Frame,
    Message,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PENDING: Final = 16
"""Requests that may wait for their answers on one connection, each way."""


class Role(enum.Enum):
    """Which end of which kind of connection this is."""

    CHANNEL_AGENT = "agent end of the channel"
    CHANNEL_PORTAL = "portal end of the channel"
    LOOPBACK_AGENT = "agent end of the loopback socket"
    LOOPBACK_PAGE = "page end of the loopback socket"


class State(enum.StrEnum):
    """State of a connection."""

    NEW = "new"
    GREETED = "greeted"
    AUTHENTICATED = "authenticated"
    OPEN = "open"
    CLOSED = "closed"


class _Rules(NamedTuple):
    methods: Mapping[str, tuple[type[Message], type[Message]]]
    notifications: Mapping[str, type[Message]]
    calls: Mapping[tuple[State, str], State]
    """(state, method of the calling end) to the state after success"""
    answers: frozenset[tuple[State, str]]
    """what the called end may itself call"""


_CHANNEL: Final = _Rules(
    CHANNEL_METHODS,
    {},
    {
        (State.NEW, "hello"): State.GREETED,
        (State.GREETED, "authenticate"): State.AUTHENTICATED,
        (State.AUTHENTICATED, "claim"): State.OPEN,
        (State.AUTHENTICATED, "resume"): State.OPEN,
        # a claim can answer "this order has begun": the resume then follows on the same connection
        (State.OPEN, "resume"): State.OPEN,
        (State.OPEN, "message"): State.OPEN,
    },
    frozenset({(State.OPEN, "message")}),
)
_LOOPBACK: Final = _Rules(
    LOOPBACK_METHODS,
    LOOPBACK_NOTIFICATIONS,
    {
        (State.NEW, "hello"): State.GREETED,
        (State.GREETED, "list_readers"): State.GREETED,
        (State.GREETED, "watch_readers"): State.GREETED,
        (State.GREETED, "check_computer"): State.GREETED,
        (State.GREETED, "open"): State.OPEN,
        (State.OPEN, "list_readers"): State.OPEN,
        (State.OPEN, "watch_readers"): State.OPEN,
        (State.OPEN, "check_computer"): State.OPEN,
    },
    frozenset(),
)


class Request(NamedTuple):
    """The peer calls: answer with ``Session.respond`` or ``Session.refuse``."""

    id: int
    method: str
    params: Message


class Response(NamedTuple):
    """The peer answered a call."""

    id: int
    method: str
    result: Message


class Failure(NamedTuple):
    """The peer refused a call (``id`` set) or a frame of ours (``id`` None)."""

    id: int | None
    method: str | None
    error: InlayError


class Notification(NamedTuple):
    """The peer tells something and wants no answer."""

    method: str
    params: Message


Event = Request | Response | Failure | Notification


class Session:
    """One end of a connection.

    Attributes:
        role: which end.
        state: the connection's state; advances when a call succeeds.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self.state = State.NEW
        self._rules = _CHANNEL if role in (Role.CHANNEL_AGENT, Role.CHANNEL_PORTAL) else _LOOPBACK
        self._caller = role in (Role.CHANNEL_AGENT, Role.LOOPBACK_PAGE)
        self._next_id = 1
        self._waiting: dict[int, str] = {}
        self._to_answer: dict[int, str] = {}

    def call(self, method: str, params: Message) -> tuple[int, bytes]:
        """Build a request.

        Returns:
            Its id, and the frame to send.

        Raises:
            InlayError: ``wrong_state``, or ``rate_limited`` when too many calls wait.
        """
        self._check_allowed(method, calling=True)
        if len(self._waiting) >= MAX_PENDING:
            raise InlayError("rate_limited")
        id_ = self._next_id
        self._next_id += 1
        self._waiting[id_] = method
        return id_, _frame(id=id_, method=method, params=_raw(params))

    def respond(self, id_: int, result: Message) -> bytes:
        """Build the answer to a request, and advance the state."""
        method = self._to_answer.pop(id_)
        self._advance(method, calling=False)
        return _frame(id=id_, result=_raw(result))

    def refuse(self, id_: int | None, error: InlayError) -> bytes:
        """Build a refusal: of a request, or (``id_`` None) of a frame that could not be read."""
        if id_ is not None:
            self._to_answer.pop(id_, None)
        data = ErrorData(error=error.code, fields=error.fields)
        body = ErrorObject(code=error.cause.number, message=error.happened, data=data)
        return _frame(error=body) if id_ is None else _frame(id=id_, error=body)

    def notify(self, method: str, params: Message) -> bytes:
        """Build a notification."""
        if not isinstance(params, self._rules.notifications[method]):
            raise TypeError(method)
        return _frame(method=method, params=_raw(params))

    def close(self) -> None:
        """Nothing more is possible."""
        self.state = State.CLOSED

    def receive(self, data: bytes | str) -> Event:
        """Take a frame.

        Raises:
            DecodeError: it is not a frame of this protocol; names the path.
            InlayError: ``method_unknown``, ``wrong_state``, ``rate_limited``. After any of them the caller sends
                ``refuse(error.frame_id, …)`` and closes.
        """
        frame = codec.decode(data, Frame)
        if frame.method is not UNSET:
            if frame.result is not UNSET or frame.error is not UNSET:
                raise DecodeError("frame_invalid", "$.result")
            return self._called(frame, frame.method)
        return self._answered(frame)

    def _called(self, frame: Frame, method: str) -> Event:
        params = b"{}" if frame.params is UNSET else bytes(frame.params)
        if frame.id is UNSET:
            type_ = self._rules.notifications.get(method) if self._caller else None
            if type_ is None:
                raise InlayError("method_unknown")
            return Notification(method, _inner(params, type_, "$.params"))
        if method not in self._rules.methods:
            raise InlayError("method_unknown")
        self._check_allowed(method, calling=False)
        if len(self._to_answer) >= MAX_PENDING or frame.id in self._to_answer:
            raise InlayError("rate_limited")
        body = _inner(params, self._rules.methods[method][0], "$.params")
        self._to_answer[frame.id] = method
        return Request(frame.id, method, body)

    def _answered(self, frame: Frame) -> Event:
        if (frame.result is UNSET) == (frame.error is UNSET) or frame.params is not UNSET:
            raise DecodeError("frame_invalid", "$.result")
        if frame.error is not UNSET:
            return self._failed(frame, frame.error)
        if frame.id is UNSET or frame.id not in self._waiting or frame.result is UNSET:
            raise DecodeError("frame_invalid", "$.id")
        method = self._waiting.pop(frame.id)
        result = _inner(bytes(frame.result), self._rules.methods[method][1], "$.result")
        self._advance(method, calling=True)
        return Response(frame.id, method, result)

    def _failed(self, frame: Frame, error: ErrorObject) -> Event:
        known = from_wire(error.data.error, error.data.fields) if error.data else InlayError("internal")
        if frame.id is UNSET:
            return Failure(None, None, known)
        if frame.id not in self._waiting:
            raise DecodeError("frame_invalid", "$.id")
        return Failure(frame.id, self._waiting.pop(frame.id), known)

    def _check_allowed(self, method: str, *, calling: bool) -> None:
        if calling is self._caller:
            allowed = (self.state, method) in self._rules.calls
        else:
            allowed = (self.state, method) in self._rules.answers
        if not allowed:
            raise InlayError("wrong_state", method=method, state=self.state.value)

    def _advance(self, method: str, *, calling: bool) -> None:
        if calling is self._caller and self.state is not State.CLOSED:
            self.state = self._rules.calls[self.state, method]


def choose_version(offered: list[int]) -> int:
    """The highest version that both sides speak.

    Raises:
        InlayError: ``version_unsupported``.
    """
    common = set(offered) & set(PROTOCOL_VERSIONS)
    if not common:
        raise InlayError("version_unsupported", supported=", ".join(map(str, PROTOCOL_VERSIONS)))
    return max(common)


def _inner(raw: bytes, type_: type[Message], root: str) -> Message:
    try:
        return codec.decode(raw, type_, malformed="params_invalid")
    except DecodeError as error:
        raise DecodeError(error.code, root + error.path.removeprefix("$")) from None


def _raw(value: Message) -> msgspec.Raw:
    return msgspec.Raw(codec.encode(value))


def _frame(**members: object) -> bytes:
    return codec.encode({"jsonrpc": "2.0", **members})

"""What `tests.faults.token_tears` disturbs, where, and who types what is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from agent.ports import OrderPrompt
from protocol.messages import ChangePin, ChangePuk, PinPolicy, UnblockPin
from protocol.tokens import token_guid
from tests.faults.tear_jobs import Answers
from tests.support.agent_parts import AgentParts
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import FakeWindow
from tests.support.physical_orders import ENCRYPTION
from tests.support.token_orders import NEW, encode, encode_anew
from tests.support.token_readers import PIN, SO_PIN

NEW_PUK: Final = b"24681357"
KILLS: Final = ("killed", "killed-after")
MODES: Final = ("crash", "after", "hang", "late", *KILLS)
"""The module dies before the call and after it; it hangs before and after; the agent is killed before and after."""
_ONLY_ASK: Final = frozenset({*range(4, 9), 12, 13, 14, 15, 19, 24, *range(26, 29)})
"""Slots, tokens, mechanisms, sessions, C_Logout, attributes, objects (function list of v2.40)."""
_EARLIER: Final = msgspec.structs.replace(ENCRYPTION, slot="82", optional=True)


class Job(NamedTuple):
    """What is disturbed.

    Attributes:
        ordered: has the portal order it, for the token with a serial number.
        slots: keys that the token has in the end.
        pin: what is its PIN then.
        puk: what is its PUK then.
    """

    ordered: Callable[[FakePortal, str], None]
    slots: frozenset[str]
    pin: bytes
    puk: bytes = SO_PIN


def _encode(portal: FakePortal, serial: str) -> None:
    encode(portal, serial, AUTHENTICATION, ENCRYPTION, _EARLIER)


def _issue(portal: FakePortal, serial: str) -> None:
    encode_anew(portal, serial, AUTHENTICATION, ENCRYPTION, new_puk=True)


def _change_pin(portal: FakePortal, serial: str) -> None:
    portal.operation = ChangePin(**_named(serial), pin_policy=PinPolicy())


def _unblock(portal: FakePortal, serial: str) -> None:
    portal.operation = UnblockPin(**_named(serial), pin_policy=PinPolicy(), puk="escrow")


def _change_puk(portal: FakePortal, serial: str) -> None:
    portal.operation = ChangePuk(**_named(serial))


def _named(serial: str) -> dict[str, Any]:
    return {"card": "card-1", "driver": "pkcs11", "guid": token_guid(serial), "label": "Card 7"}


_KEYS: Final = frozenset({"9A"})
JOBS: Final = {
    "encode": Job(_encode, frozenset({"9A", "9D", "82"}), PIN),
    "issue": Job(_issue, frozenset({"9A", "9D"}), NEW, NEW_PUK),
    "change PIN": Job(_change_pin, _KEYS, NEW),
    "unblock": Job(_unblock, _KEYS, NEW),
    "change PUK": Job(_change_puk, _KEYS, PIN, NEW_PUK),
}


class Position(NamedTuple):
    """Where a job is disturbed: at which of the module's calls, how, and which function that is."""

    job: str
    call: int
    mode: str
    function: int


class Row(NamedTuple):
    """What a position came to."""

    position: Position
    end: str
    faults: list[str]


class Person:
    """Types what is asked for, and knows which PIN the card had, and which it is to get.

    Attributes:
        agreed: how often a try was agreed to that may be lost.
        typed: all that was typed so far.
    """

    def __init__(self, pin: bytes) -> None:
        self._pin, self.agreed = pin, 0
        self.typed: Answers = []

    def sits_at(self, agent: AgentParts) -> None:
        """Answer whatever this agent's windows ask."""
        windows = agent.windows
        open_one = type(windows).open

        async def opened(*asked: Any) -> FakeWindow:
            window = await open_one(windows, *asked)
            window.asking = lambda: window.answers.append(self._types(window.asked[-1]))
            return window

        windows.open = opened  # type: ignore[method-assign,assignment]

    def _types(self, prompt: OrderPrompt) -> tuple[bytes | None, bytes | None]:
        self.typed.append(self._answer(prompt))
        return self.typed[-1]

    def _answer(self, prompt: OrderPrompt) -> tuple[bytes | None, bytes | None]:
        if prompt.confirm_label == "Try":
            self.agreed += 1
            return NEW, None
        if "find out" in (prompt.warning or ""):
            self.agreed += 1
        return (None if prompt.known is None else self._pin, None if prompt.pin_policy is None else NEW)


def positions(job: str, calls: list[int], modes: list[str], *, every_call: bool) -> list[Position]:
    """All positions of a job: each call that changes or uses something, and the first of each that only asks."""
    seen: set[int] = set()
    found = []
    for number, function in enumerate(calls, 1):
        if every_call or function not in _ONLY_ASK or function not in seen:
            found += [Position(job, number, mode, function) for mode in modes]
        seen.add(function)
    return found

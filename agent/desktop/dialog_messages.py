"""What the daemon and the window's process say to each other: JSON lines over one inherited socket.

A second inherited socket carries secrets as raw bytes: one byte of length, then the bytes. The PIN goes
up on it just before ``consented``; a PUK that is shown once goes down just before its ``details``.
"""

from __future__ import annotations

from typing import Literal, TypedDict

MAX_LINE_BYTES = 64 * 1024

EXIT_NO_DISPLAY = 3
"""The window's process could not open the display it was given."""


class RulesFields(TypedDict):
    """`agent.pin_rules.PinRules`."""

    min_length: int
    max_length: int
    upper: str
    lower: str
    digits: str
    special: str
    agent_only: bool


class Consent(TypedDict):
    """`agent.ports.OrderPrompt`."""

    show: Literal["consent"]
    portal_name: str
    origin: str
    reading: str | None
    account: str
    title: str
    consequences: list[str]
    rules: RulesFields | None
    confirm_label: str
    card: str | None


class Number(TypedDict):
    """Three digits for the web page."""

    show: Literal["number"]
    number: str


class Progress(TypedDict):
    """One step under way."""

    show: Literal["progress"]
    step_id: str
    text: str
    done: int
    total: int
    can_cancel: bool


class CertificateFields(TypedDict):
    """`agent.ports.CertificateLine`."""

    purpose: str
    subject: str
    not_before: str
    not_after: str


class Details(TypedDict):
    """`agent.ports.CardSummary`; with ``has_puk``, the PUK waits in the secret socket."""

    show: Literal["details"]
    label: str
    serial: str
    storage_level: str
    certificates: list[CertificateFields]
    notes: list[str]
    has_puk: bool


class Failure(TypedDict):
    """An error in its three parts."""

    show: Literal["error"]
    code: str
    happened: str
    why: str
    next_step: str


class EnterCode(TypedDict):
    """The page where a code is typed; portals to choose from."""

    show: Literal["code"]
    portals: list[str]


class Order(TypedDict):
    """To the window itself: ``raise`` or ``close``."""

    show: Literal["raise", "close"]


ToWindow = Consent | Number | Progress | Details | Failure | EnterCode | Order


class Event(TypedDict, total=False):
    """From the window: ``ready``, ``shown``, ``consented``, ``cancelled``, ``code``, ``hidden``, ``closed``."""

    event: str
    page: str
    step: str
    portal: str
    code: str

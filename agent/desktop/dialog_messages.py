"""What the daemon and the window's process say to each other: JSON lines over one inherited socket.

A second inherited socket carries secrets as raw bytes: one byte of length, then the bytes. What was typed goes up
on it just before ``consented``, the known PIN or PUK first, then the new PIN; a PUK that is shown once goes down just
before its ``details``.
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


class KnownFields(TypedDict):
    """`agent.ports.KnownSecret`."""

    caption: str
    shortest: int
    longest: int


class Consent(TypedDict):
    """`agent.ports.OrderPrompt`."""

    show: Literal["consent"]
    portal_name: str
    origin: str | None
    reading: str | None
    account: str | None
    title: str
    consequences: list[str]
    rules: RulesFields | None
    confirm_label: str
    card: str | None
    known: KnownFields | None
    warning: str | None
    typed: str | None
    working: str


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


class ChoiceFields(TypedDict):
    """`agent.ports.CardChoice`."""

    card: str
    label: str
    detail: str
    usable: bool


class Choose(TypedDict):
    """Cards to choose one from; with a ``note`` the list follows what is there, else there is at least one."""

    show: Literal["choose"]
    title: str
    note: str | None
    cards: list[ChoiceFields]


class Card(TypedDict):
    """`agent.ports.CardSheet`; fields and actions as pairs."""

    show: Literal["card"]
    title: str
    fields: list[tuple[str, str]]
    warning: str | None
    certificates: list[CertificateFields]
    actions: list[tuple[str, str]]


class Done(TypedDict):
    """It is done."""

    show: Literal["done"]
    title: str
    lines: list[str]


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


ToWindow = Consent | Number | Progress | Details | Choose | Card | Done | Failure | EnterCode | Order


class Event(TypedDict, total=False):
    """From the window.

    ``ready``, ``shown``, ``consented``, ``cancelled``, ``chosen``, ``action``, ``code``, ``hidden``, ``closed``.
    """

    event: str
    page: str
    step: str
    portal: str
    code: str
    card: str
    action: str

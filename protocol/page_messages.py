"""What pages hear and say: the loopback socket of the agent, and the portal's events."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from protocol.page_findings import FindingCode
from protocol.words import (
    Code,
    CompactJws,
    ErrorData,
    Identifier,
    KeyCount,
    Message,
    Nonce,
    Origin,
    PortalId,
    ShortText,
    Step,
    UnixTime,
    whole,
)

TICKET_SECONDS: Final = 300
"""How long a ticket is good for at the most: the portal gives none longer, the agent takes none for longer."""


class LoopbackHelloResult(Message, frozen=True):
    """The agent's answer to ``hello``: versions, and nothing about the machine."""

    version: int
    versions: list[int]


class OpenParams(Message, frozen=True):
    """``open``: hands over a code. The agent claims it at the portal that its trust store names."""

    portal: PortalId
    code: Code


class OpenResult(Message, frozen=True):
    """The code was taken; what becomes of it comes as ``progress``, ``completion`` and ``ended``."""

    accepted: bool


class ProgressParams(Message, frozen=True):
    """Notification to the page: the order got to this step."""

    step: Step
    key: KeyCount | None = None
    """at the step ``keys``"""


class CompletionParams(Message, frozen=True):
    """Notification to the page after consent: what the page hands to its portal to bind its session."""

    completion: Nonce


class EndedParams(Message, frozen=True):
    """Notification to the page: the order ended."""

    outcome: Literal["finished", "undone", "refused"]
    error: ErrorData | None = None


class TicketParams(Message, frozen=True):
    """``list_readers``, ``watch_readers``: reading needs a ticket that the portal signed for this page's origin."""

    ticket: CompactJws


class Ticket(Message, frozen=True):
    """Signed by an order key (``typ`` inlay-ticket+jwt); good for five minutes at the most."""

    iss: PortalId
    aud: Literal["inlay"]
    origin: Origin
    level: Literal["read"]
    iat: UnixTime
    exp: UnixTime


class Reader(Message, frozen=True):
    """A reader as PC/SC names it."""

    name: ShortText
    card_present: bool
    atr: Annotated[str, Meta(max_length=66, pattern=whole(r"([0-9A-F]{2})*"))] = ""
    mute: bool = False
    """there is a card, and it doesn't answer"""
    exclusive: bool = False
    """another program kept the card for itself when the readers were looked at"""
    insertions: Annotated[int, Meta(ge=0, le=2**31)] = 0
    """cards put in since the agent watches; it moves when a card was taken out and put in again unseen"""


class ReadersParams(Message, frozen=True):
    """Answer to ``watch_readers``, and notification to the page at each change: all readers as they stand."""

    readers: Annotated[list[Reader], Meta(max_length=64)]
    service: bool
    """the PC/SC service answers; without it no reader is seen"""
    last: bool = False
    """the ticket has run out: ask again with a fresh one"""


class ListReadersResult(Message, frozen=True):
    """All readers of the machine."""

    readers: Annotated[list[Reader], Meta(max_length=64)]


class ComputerFinding(Message, frozen=True):
    """One of the doctor's findings that a page may know: a code, for which the page has the words."""

    code: FindingCode
    reader: ShortText | None = None
    """the reader it is about, as PC/SC names it"""
    kind: ShortText | None = None
    """what the card map calls the card"""
    driver: Literal["piv", "pkcs11"] | None = None


class CheckComputerResult(Message, frozen=True):
    """Answer to ``check_computer``: service, readers and cards, and what is the matter with them."""

    findings: Annotated[list[ComputerFinding], Meta(max_length=128)]


class PageEvent(Message, frozen=True):
    """Server-sent event ``order`` of the portal: where the order stands, for the page that began it."""

    state: Literal["waiting", "running", "finished", "undone"]
    """``waiting``: nobody has claimed the code yet"""
    step: Step | None = None
    key: KeyCount | None = None
    """at the step ``keys``"""
    number_wanted: bool = False
    tries_left: Annotated[int, Meta(ge=0, le=3)] | None = None
    error: PageError | None = None


class PageError(Message, frozen=True):
    """An error as a page may show it."""

    error: Identifier
    happened: str
    why: str
    next_step: str

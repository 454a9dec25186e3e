"""What staff's services hand to their pages: plain immutable values. Times are whole seconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portal.mail import outbox
    from portal.model.graphs import StateGraph
    from portal.model.options import OptionValue
    from portal.processes.ca_changes import Summary, Waiting
    from portal.staff.filters import Filter
    from portal.views import CertificateView


@dataclass(frozen=True, slots=True)
class Link:
    """An object that a page can lead to.

    Attributes:
        kind: kind of object.
        id: its id.
        title: what it is called.
    """

    kind: str
    id: str
    title: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One row of a search.

    Attributes:
        object: the object itself.
        state: its state, or empty where it has none.
        cells: one text for each of the result's columns.
        note: what stands beside the state, for example a revocation that waits.
    """

    object: Link
    state: str
    cells: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """One page of a search.

    Attributes:
        filter: what was asked.
        columns: titles of the cells.
        hits: at most a page of them.
        count: how many there are; never more than ``counted_to``.
        counted_to: where counting stopped: ``count`` equal to it means "at least".
        after: where the next page begins, or empty.
    """

    filter: Filter
    columns: tuple[str, ...]
    hits: Sequence[Hit]
    count: int
    counted_to: int
    after: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of an object's page; ``link`` where it names another object."""

    label: str
    text: str
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class Relation:
    """A typed relation between the page's object and another one.

    Attributes:
        type: for example ``HAS_A``.
        words: the same for people, read from the page's object: "has", or "belongs to".
        other: the other object.
        state: its state.
    """

    type: str
    words: str
    other: Link
    state: str


@dataclass(frozen=True, slots=True)
class Event:
    """One row of an object's history, from the audit log.

    Attributes:
        number: of the row.
        at: when.
        what: what happened, a sentence without its full stop.
        action: the audit log's word for it.
        actor: who.
        why: the reason, or empty.
        details: label to what else is known.
        object: what it happened to, when that is not the page's object.
    """

    number: int
    at: int
    what: str
    action: str
    actor: str
    why: str = ""
    details: tuple[tuple[str, str], ...] = ()
    object: Link | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """A part of an object's history, newest first; ``before`` asks for the part before it, 0 when there is none."""

    events: Sequence[Event]
    before: int = 0


@dataclass(frozen=True, slots=True)
class ObjectView:
    """An object with all that is known of it."""

    object: Link
    kind_title: str
    state: str
    facts: Sequence[Fact]
    timeline: Timeline
    relations: Sequence[Relation] = ()
    certificates: Sequence[CertificateView] = ()
    notices: Sequence[str] = field(default=())


@dataclass(frozen=True, slots=True)
class ScriptSummary:
    """A script of options.

    Attributes:
        name: symbolic name.
        title: for people.
        version: 0 as installed.
        saved_by: e-mail address, or None as installed.
        saved_at: time, or None as installed.
        unread: no process of this version reads it.
    """

    name: str
    title: str
    version: int
    saved_by: str | None
    saved_at: int | None
    unread: bool


@dataclass(frozen=True, slots=True)
class OptionChange:
    """One option that a version changed; a value is None where the option wasn't there.

    Attributes:
        title: for people; the name of an option that this version of the portal doesn't have.
        name: symbolic name.
        before, after: as they were stored.
        captions: choice to what people read in its place.
    """

    title: str
    name: str
    before: OptionValue | None
    after: OptionValue | None
    captions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OptionVersion:
    """A saved version of a script's options, with what it changed."""

    version: int
    saved_by: str
    saved_at: int
    changes: Sequence[OptionChange]


@dataclass(frozen=True, slots=True)
class OptionHistory:
    """A script's versions, newest first."""

    script: str
    title: str
    versions: Sequence[OptionVersion]


@dataclass(frozen=True, slots=True)
class Graph:
    """A state graph with a title for people."""

    name: str
    title: str
    graph: StateGraph[Any]


@dataclass(frozen=True, slots=True)
class QueueView:
    """What waits for the CA; ``after`` asks for the next page, empty when there is none."""

    summary: Summary
    waiting: Sequence[Waiting]
    after: str = ""


@dataclass(frozen=True, slots=True)
class MailsView:
    """Mails that aren't sent; ``after`` asks for the next page, empty when there is none.

    Attributes:
        configured: this portal has a mail server.
    """

    summary: outbox.Summary
    mails: Sequence[outbox.Unsent]
    configured: bool
    after: str = ""


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A page of the audit log, newest first; ``before`` asks for the next one, 0 when there is none."""

    filter: Filter
    events: Sequence[Event]
    before: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check of the audit log found: how many rows, and a sentence for each thing that was done to them."""

    rows: int
    faults: Sequence[str]

"""What a search asks: read from a page's address, checked field by field, and written back as an address.

A filter is a kind of object and one text for each of that kind's fields. It keeps the texts as they were sent, so that
a page shows them again, and what is wrong with one is said at its field.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from portal.errors import FieldErrors, NotFound
from portal.model import states
from portal.model.states import CaState, ProcessState, Role, UserState
from protocol.messages import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FieldKind = Literal["text", "choice", "date", "flag"]
MAX_TEXT: Final = 200
TEXT: Final = "text"
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
"""Of the forms that ISO 8601 has for a day, the one that browsers send."""


@dataclass(frozen=True, slots=True)
class FilterField:
    """One field of a search form.

    Attributes:
        name: as the address holds it.
        title: label for people.
        kind: ``text``, ``choice`` (one of ``choices``, or empty for all), ``date`` (a day, UTC) or ``flag`` (``yes``).
        choices: value to what it is called.
        hint: one sentence, or empty.
    """

    name: str
    title: str
    kind: FieldKind
    choices: tuple[tuple[str, str], ...] = ()
    hint: str = ""

    def problem(self, text: str) -> str | None:
        """What is wrong with a text that was sent; None when it is empty or fine."""
        if not text:
            return None
        match self.kind:
            case "text":
                fits = len(text) <= MAX_TEXT and text.isprintable()
                return None if fits else f"At most {MAX_TEXT} printable characters are possible."
            case "choice":
                known = ", ".join(label for _, label in self.choices)
                return None if text in dict(self.choices) else f"Choose one of: {known}."
            case "date":
                return None if _day(text) else "A day is needed, as YYYY-MM-DD."
            case "flag":
                return None if text == "yes" else "Only yes is possible, or nothing."


@dataclass(frozen=True, slots=True)
class SearchKind:
    """A kind of object that can be searched for.

    Attributes:
        name: as the audit log and relations name it.
        title: several of it, for people.
        fields: what can be asked, in the order shown.
    """

    name: str
    title: str
    fields: tuple[FilterField, ...]

    def field(self, name: str) -> FilterField:
        """One of the fields."""
        return next(item for item in self.fields if item.name == name)


@dataclass(frozen=True, slots=True)
class Filter:
    """A search: its kind, and the checked texts of the fields that are not empty."""

    kind: SearchKind
    values: Mapping[str, str]

    def get(self, name: str) -> str:
        """A field's text; empty when nothing is asked of it."""
        return self.values.get(name, "")

    def flag(self, name: str) -> bool:
        """Whether a flag is set."""
        return self.get(name) == "yes"

    def start_of(self, name: str) -> int | None:
        """First second of the day that a field holds."""
        day = _day(self.get(name))
        return None if day is None else int(day.timestamp())

    def end_of(self, name: str) -> int | None:
        """First second after the day that a field holds."""
        day = _day(self.get(name))
        return None if day is None else int((day + datetime.timedelta(days=1)).timestamp())

    def query(self) -> dict[str, str]:
        """The filter as an address holds it."""
        return {"kind": self.kind.name, **self.values}


def read(kinds: Mapping[str, SearchKind], name: str, sent: Mapping[str, str]) -> Filter:
    """Read a filter; fields of other kinds are left out, because a change of kind keeps the address's other parts.

    Raises:
        NotFound: no such kind.
        FieldErrors: a field's name to what is wrong with it.
    """
    kind = kinds.get(name)
    if kind is None:
        raise NotFound("kind")
    values = {item.name: sent.get(item.name, "").strip() for item in kind.fields}
    problems = {item.name: item.problem(values[item.name]) for item in kind.fields}
    errors = {field: text for field, text in problems.items() if text}
    for first, last in (("since", "until"), ("expires_from", "expires_to")):
        if not errors and values.get(first) and values.get(last) and values[first] > values[last]:
            errors[last] = "This day is before the first one."
    if errors:
        raise FieldErrors(errors)
    return Filter(kind, {field: text for field, text in values.items() if text})


def search_kinds(
    process_titles: Mapping[str, str], certificate_states: Iterable[str] = states.CERTIFICATE.states
) -> dict[str, SearchKind]:
    """All kinds by name.

    Args:
        process_titles: symbolic name of each process that the portal has to its title.
        certificate_states: the states of the portal's certificate graphs.
    """
    found = [
        SearchKind("user", "Users", (_text("Name, e-mail address or id."), *_USER_FIELDS, *_days("Added"))),
        _cards("virtual_smart_card", "Virtual smart cards", states.VIRTUAL_SMART_CARD.states),
        _cards("temporary_card", "Temporary cards", states.TEMPORARY_CARD.states),
        _cards("card", "Cards", states.CARD.states),
        _cards("mobile_id", "Mobile IDs", states.MOBILE_ID.states),
        SearchKind("certificate", "Certificates", _certificate_fields(certificate_states)),
        SearchKind("device", "Devices", (_text("Name, platform, user or id."), *_days("Seen"))),
        SearchKind(
            "process",
            "Processes",
            (
                _text("User or id."),
                FilterField("name", "Process", "choice", tuple(process_titles.items())),
                _states(ProcessState),
                *_days("Started"),
            ),
        ),
    ]
    return {kind.name: kind for kind in found}


def _cards(name: str, title: str, possible: Iterable[str]) -> SearchKind:
    text = _text("Holder, label, id, or the beginning of serial or GUID.")
    return SearchKind(name, title, (text, _states(possible), *_days("Made")))


def _day(text: str) -> datetime.datetime | None:
    """Midnight (UTC) of a day written YYYY-MM-DD."""
    try:
        day = datetime.date.fromisoformat(text) if _DAY.match(text) else None
    except ValueError:
        return None
    if day is None or not 1970 <= day.year < 9999:
        return None
    return datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC)


def _text(hint: str) -> FilterField:
    return FilterField(TEXT, "Text", "text", hint=hint)


def _choice(name: str, title: str, values: Iterable[str]) -> FilterField:
    return FilterField(name, title, "choice", tuple((value, value) for value in values))


def _states(graph: Iterable[str]) -> FilterField:
    order = sorted(str(state) for state in graph)
    return _choice("state", "State", order)


def _days(what: str) -> Sequence[FilterField]:
    return (
        FilterField("since", f"{what} from", "date"),
        FilterField("until", f"{what} until", "date"),
    )


_USER_FIELDS: Final = (_states(UserState), _choice("role", "Role", (role.value for role in Role)))


def _certificate_fields(states_: Iterable[str]) -> tuple[FilterField, ...]:
    return (
        _text("Owner, id, or the beginning of the serial number."),
        _choice("profile", "Profile", (purpose.value for purpose in Purpose)),
        _states(states_),
        _choice("ca_state", "State in the CA", (state.value for state in CaState)),
        FilterField("pending", "Revocation pending", "flag"),
        FilterField("expires_from", "Expires from", "date"),
        FilterField("expires_to", "Expires until", "date"),
        *_days("Issued"),
    )

"""Filters: every field checked at its field, nothing of it a pattern or a statement."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.errors import FieldErrors, NotFound
from portal.staff.filters import MAX_TEXT, Filter, read, search_kinds

KINDS = search_kinds({"ProcGet": "Get a card"})

_WRONG = [
    ("certificate", {"state": "Issud"}, "state"),
    ("certificate", {"profile": "coffee"}, "profile"),
    ("certificate", {"ca_state": "fine"}, "ca_state"),
    ("certificate", {"pending": "no"}, "pending"),
    ("certificate", {"expires_from": "next year"}, "expires_from"),
    ("certificate", {"expires_to": "2027-02-30"}, "expires_to"),
    ("certificate", {"expires_from": "2027-02-02", "expires_to": "2027-02-01"}, "expires_to"),
    ("virtual_smart_card", {"since": "2027-W01-1"}, "since"),
    ("virtual_smart_card", {"since": "20270101"}, "since"),
    ("virtual_smart_card", {"since": "1969-12-31"}, "since"),
    ("virtual_smart_card", {"until": "9999-12-31"}, "until"),
    ("virtual_smart_card", {"since": "2027-01-02", "until": "2027-01-01"}, "until"),
    ("virtual_smart_card", {"state": "Assigned"}, "state"),
    ("temporary_card", {"state": "Valid"}, "state"),
    ("user", {"role": "root"}, "role"),
    ("user", {"text": "x" * (MAX_TEXT + 1)}, "text"),
    ("user", {"text": "a\x00b"}, "text"),
    ("process", {"name": "Other"}, "name"),
]


@pytest.mark.parametrize(("kind", "sent", "field"), _WRONG)
def test_refused_at_its_field(kind: str, sent: dict[str, str], field: str) -> None:
    with pytest.raises(FieldErrors) as caught:
        read(KINDS, kind, sent)
    assert set(caught.value.errors) == {field}
    assert caught.value.errors[field].endswith(".")


def test_all_that_is_wrong_at_once() -> None:
    with pytest.raises(FieldErrors) as caught:
        read(KINDS, "certificate", {"state": "x", "since": "x", "text": "x" * 999})
    assert set(caught.value.errors) == {"state", "since", "text"}


@pytest.mark.parametrize("kind", ["", "users", "audit", "'; DROP TABLE users; --"])
def test_an_unknown_kind(kind: str) -> None:
    with pytest.raises(NotFound):
        read(KINDS, kind, {})


def test_fields_of_other_kinds_are_left_out() -> None:
    asked = read(
        KINDS, "user", {"profile": "nonsense", "pending": "yes", "state": " active ", "after": "1.2"}
    )
    assert asked.query() == {"kind": "user", "state": "active"}


def test_a_day_is_whole() -> None:
    asked = read(KINDS, "user", {"since": "2027-01-15", "until": "2027-01-15"})
    assert asked.start_of("since") == 1_799_971_200
    assert asked.end_of("until") == 1_799_971_200 + 86_400
    assert asked.start_of("expires_from") is None


@given(
    st.sampled_from(sorted(KINDS)),
    st.dictionaries(
        st.sampled_from(["text", "state", "since", "until", "pending", "role", "profile", "expires_to"]),
        st.one_of(st.text(max_size=30), st.sampled_from(["Active", "2027-01-01", "yes", "%_%"])),
    ),
)
def test_any_text_is_a_filter_or_named_errors_and_its_address_says_the_same(
    kind: str, sent: dict[str, str]
) -> None:
    errors: dict[str, str] = {}
    try:
        asked = read(KINDS, kind, sent)
    except FieldErrors as error:
        errors = error.errors
        asked = Filter(KINDS[kind], {})
    assert set(errors) <= {field.name for field in KINDS[kind].fields}
    assert read(KINDS, kind, asked.query()) == Filter(KINDS[kind], asked.values)

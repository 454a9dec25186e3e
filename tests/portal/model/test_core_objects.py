"""Core object descriptors and process variables are read back as what they were."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.model import variables
from portal.model.objects import CoreObject, ObjectKind, parse_core_object
from portal.model.variables import VariableError
from protocol.errors import InlayError

_CARD = CoreObject(ObjectKind.CARD, "1", "One")
_objects = st.builds(
    CoreObject,
    st.sampled_from(ObjectKind),
    st.text(min_size=1, max_size=64),
    st.text(max_size=100),
)
_names = st.text(max_size=20).filter(lambda name: not name.startswith("$"))
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=50) | _objects,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"kind":"card"}',
        '{"kind":"card","id":""}',
        '{"kind":"castle","id":"1"}',
        '{"kind":"card","id":1}',
        '{"kind":"card","id":"1","label":null}',
        '{"kind":"card","id":"1","owner":"2"}',
        json.dumps({"kind": "card", "id": "x" * 65}),
        json.dumps({"kind": "card", "id": "1", "label": "x" * 401}),
        b"\xff",
    ],
)
def test_a_descriptor_that_is_none(text: str | bytes) -> None:
    """Anything else is refused by name."""
    assert _refused(text) == "descriptor_invalid"


@given(st.text() | st.binary())
def test_parsing_is_total(text: str | bytes) -> None:
    """Any text is a descriptor or the named error."""
    assert _refused(text) in (None, "descriptor_invalid")


@given(_objects)
def test_a_descriptor_comes_back(item: CoreObject) -> None:
    """Kind, id and label, through its text."""
    assert parse_core_object(item.text()) == item


def test_the_label_is_no_part_of_the_identity() -> None:
    """A renamed object is the same one."""
    assert _CARD.same(CoreObject(ObjectKind.CARD, "1", "Another"))
    assert not _CARD.same(CoreObject(ObjectKind.CARD, "2", "One"))
    assert not _CARD.same(CoreObject(ObjectKind.MOBILE_ID, "1", "One"))


@given(st.dictionaries(_names, _values, max_size=5))
def test_variables_come_back(values: dict[str, Any]) -> None:
    """Through JSON, with their types."""
    back = variables.decode(json.loads(json.dumps(variables.encode(values))))
    assert back == values
    assert _types(back) == _types(values)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (1.5, "v"),
        (b"secret", "v"),
        ({"inner": object()}, "v.inner"),
        ([1, {2}], "v[1]"),
        ({1: "x"}, "v.1"),
        ({"$object": {"kind": "card", "id": "1"}}, "v.$object"),
    ],
)
def test_a_variable_that_is_not_kept(value: object, where: str) -> None:
    """A mistake of a process shows at once, names the place and never the value."""
    with pytest.raises(VariableError) as caught:
        variables.encode({"v": value})
    assert caught.value.where == where
    assert "secret" not in str(caught.value)


def test_a_name_that_is_not_kept() -> None:
    """A variable's own name is bound by the same rule."""
    with pytest.raises(VariableError):
        variables.encode({"$v": 1})


def _refused(text: str | bytes) -> str | None:
    try:
        parse_core_object(text)
    except InlayError as error:
        return error.code
    return None


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_types(item) for item in value]
    return type(value)

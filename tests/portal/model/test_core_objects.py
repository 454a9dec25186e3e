"""Core object descriptors and process variables are read back as what they were."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.model import variables
from portal.model.objects import CoreObject, ObjectKind
from portal.model.variables import VariableError
from protocol.errors import InlayError

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
    "stored",
    [
        None,
        [],
        {"kind": "card"},
        {"kind": "card", "id": ""},
        {"kind": "castle", "id": "1"},
        {"kind": "card", "id": 1},
        {"kind": "card", "id": "1", "label": None},
        {"kind": "card", "id": "1", "owner": "2"},
        {"kind": "card", "id": "x" * 65},
        {"kind": "card", "id": "1", "label": "x" * 401},
    ],
)
def test_a_descriptor_that_is_none(stored: object) -> None:
    """What was stored by somebody else is refused by name."""
    with pytest.raises(InlayError) as caught:
        variables.decode({"v": {"$object": stored}})
    assert caught.value.code == "descriptor_invalid"


@given(_objects)
def test_a_descriptor_comes_back(item: CoreObject) -> None:
    """Kind, id and label, by themselves and inside of a list; and what is stored is plain."""
    stored = json.loads(json.dumps(variables.encode({"one": item, "many": [item]})))
    assert variables.decode(stored) == {"one": item, "many": [item]}
    assert stored["one"] == {"$object": {"kind": item.kind.value, "id": item.id, "label": item.label}}


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


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_types(item) for item in value]
    return type(value)

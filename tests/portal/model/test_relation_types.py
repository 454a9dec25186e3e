"""Relation types: exactly one is the default."""

from __future__ import annotations

import pytest

from portal.errors import ModelFaults
from portal.model.relations import BUILT_IN, HAS_A, RelationType, RelationTypes

_EXTRA = RelationType("WRITTEN_BY", "was written by", "wrote")


@pytest.mark.parametrize(
    ("types", "fault"),
    [
        ([RelationType(HAS_A, "has", "of"), *BUILT_IN[1:]], "exactly one must be the default; it is: none"),
        ([*BUILT_IN, RelationType("X", "x", "y", default=True)], "it is: HAS_A, X"),
        ([*BUILT_IN, _EXTRA, _EXTRA], "'WRITTEN_BY' stands twice"),
        (BUILT_IN[:1], "'REPLACES' is missing"),
    ],
)
def test_types_that_do_not_fit(types: list[RelationType], fault: str) -> None:
    """None, two, twice the same, and one that the portal needs."""
    with pytest.raises(ModelFaults) as caught:
        RelationTypes(types)
    assert fault in str(caught.value)


def test_types() -> None:
    """Those that are built in, and one more."""
    types = RelationTypes([*BUILT_IN, _EXTRA])
    assert (types.default, types.names) == (HAS_A, ["HAS_A", "REPLACES", "WRITTEN_BY"])
    assert "WRITTEN_BY" in types
    assert "LOVES" not in types
    said = [types.words(name, outgoing=way) for name in ("REPLACES", "GONE") for way in (True, False)]
    assert said == ["replaces", "is replaced by", "GONE", "GONE"]

"""Types of relations between objects; exactly one of them is the default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from portal.errors import ModelFaults

if TYPE_CHECKING:
    from collections.abc import Sequence

Name = Annotated[str, msgspec.Meta(pattern=r"\A[A-Z][A-Z0-9_]{0,63}\Z")]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class RelationType(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A type of relation, read from the first object to the second.

    Attributes:
        name: symbolic name, capitals, digits and underscores; ``ObjectRelationType`` of an encoding description.
        title: for people, for example "has".
        inverse: for people, read from the second object, for example "belongs to".
        default: it is taken where none is named.
    """

    name: Name
    title: Title
    inverse: Title
    default: bool = False


HAS_A: Final = "HAS_A"
REPLACES: Final = "REPLACES"
BUILT_IN: Final = (
    RelationType(HAS_A, "has", "belongs to", default=True),
    RelationType(REPLACES, "replaces", "is replaced by"),
)


class RelationTypes:
    """The types that this portal runs with.

    Args:
        types: all of them.

    Raises:
        ModelFaults: a name stands twice, one that the portal uses is missing, or the default isn't exactly one.
    """

    def __init__(self, types: Sequence[RelationType] = BUILT_IN) -> None:
        names = [item.name for item in types]
        defaults = [item.name for item in types if item.default]
        faults = [
            f"relation type {name!r} stands twice."
            for name in sorted({n for n in names if names.count(n) > 1})
        ]
        faults += [
            f"relation type {item.name!r} is missing; the portal itself uses it."
            for item in BUILT_IN
            if item.name not in names
        ]
        if len(defaults) != 1:
            found = ", ".join(defaults) or "none"
            faults.append(f"relation types: exactly one must be the default; it is: {found}.")
        if faults:
            raise ModelFaults(faults)
        self._types = {item.name: item for item in types}
        self.default = defaults[0]

    def __contains__(self, name: str) -> bool:
        """Whether there is a type of this name."""
        return name in self._types

    def words(self, name: str, *, outgoing: bool) -> str:
        """A relation for people, read from its first object or from its second; the name of a type that is gone."""
        if name not in self._types:
            return name
        return self._types[name].title if outgoing else self._types[name].inverse

    @property
    def names(self) -> list[str]:
        """All names, in the order in which they were given."""
        return list(self._types)

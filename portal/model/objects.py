"""Core objects: what has a life of its own, and the small value that stands for one.

A *core object descriptor* names an object by kind and id and carries its label for people. It is what process variables
hold of objects, what a field of an encoding description receives, and what a page shows; the row itself stays in the
store.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final

import msgspec

MAX_ID: Final = 64
MAX_LABEL: Final = 400
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]
_Label = Annotated[str, msgspec.Meta(max_length=MAX_LABEL)]


class ObjectKind(enum.StrEnum):
    """Kinds of core objects; the first four are cards, each with its own state graph."""

    CARD = "card"
    TEMPORARY_CARD = "temporary_card"
    VIRTUAL_SMART_CARD = "virtual_smart_card"
    MOBILE_ID = "mobile_id"
    CERTIFICATE = "certificate"
    USER = "user"
    ARCHIVED_KEY = "archived_key"


CARD_KINDS: Final = frozenset(
    {ObjectKind.CARD, ObjectKind.TEMPORARY_CARD, ObjectKind.VIRTUAL_SMART_CARD, ObjectKind.MOBILE_ID}
)


class CoreObject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A core object descriptor.

    Attributes:
        kind: kind of object.
        id: its id, 1 to 64 characters.
        label: its name for people when the descriptor was made, at most 400 characters; not part of its identity.
    """

    kind: ObjectKind
    id: _Id
    label: _Label = ""

"""What a task does, made of a description and of what its fields hold: kept with the order that carries it out.

A plan is made once, when the task begins. Later changes of the description, of options or of variables don't touch it.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from portal.encoding.description import Relation
from portal.encoding.keywords import PinSource
from protocol import codec

if TYPE_CHECKING:
    from collections.abc import Mapping


class TaskKind(enum.StrEnum):
    """The two tasks (mission section 2)."""

    PRODUCTION = "production"
    """makes a card object"""
    OPERATION = "operation"
    """usually runs on a card that is there"""


class PlannedCertificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One application's certificate.

    Attributes:
        application: name of its section.
        slot: key on the card.
        template: certificate template.
        algorithm: of the key.
        source: where the key comes from.
        relation: when the certificate is related to the card.
        relation_type: of that relation; None: the default type.
        return_variable: process variable that receives its descriptor.
        hold: the CA issues it on hold.
        recovers: id of the certificate that is recovered; None for one that is requested.
        optional: a card that can't take it goes on without it.
        pin_policy: when the key asks for the PIN; None: as the card has it for its place.
        touch_policy: when it asks for a touch; None: as the card has it.
    """

    application: str
    slot: str
    template: str
    algorithm: str
    source: Literal["generate", "import", "import_if_possible", "keep"]
    relation: Relation = "success"
    relation_type: str | None = None
    return_variable: str | None = None
    hold: bool = False
    recovers: str | None = None
    optional: bool = False
    pin_policy: Literal["never", "once", "always"] | None = None
    touch_policy: Literal["never", "always", "cached"] | None = None


class PlannedObject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One application's data object.

    Attributes:
        application: name of its section.
        tag: hexadecimal, in capitals.
        content: what is in it, hexadecimal.
    """

    application: str
    tag: str
    content: str


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task as it will be carried out.

    Attributes:
        kind: Card Production or Card Operation.
        certificates: in the order of the applications.
        pin: how the PIN is entered; None: no PIN is asked for.
        initialise: the card is made or erased first.
        label: the card's new label.
        set_pin: the PIN is set.
        puk: where the card's PUK is found: ``#`` and the PUK, or the name of a process variable.
        block: the card is blocked at the end.
        clear: process variables that are emptied when the task has ended.
        objects: data objects that are written, in the order of the applications.
    """

    kind: TaskKind
    certificates: tuple[PlannedCertificate, ...]
    pin: PinSource | None = None
    initialise: bool = False
    label: str | None = None
    set_pin: bool = False
    puk: str | None = None
    block: bool = False
    clear: tuple[str, ...] = ()
    objects: tuple[PlannedObject, ...] = ()

    @property
    def requested(self) -> tuple[PlannedCertificate, ...]:
        """The certificates that a CA is asked for."""
        return tuple(item for item in self.certificates if item.recovers is None)

    @property
    def recovered(self) -> tuple[PlannedCertificate, ...]:
        """The certificates that come from the archive."""
        return tuple(item for item in self.certificates if item.recovers is not None)

    def of_slot(self, slot: str) -> PlannedCertificate | None:
        """What is planned for a key."""
        return next((item for item in self.certificates if item.slot == slot), None)


def stored(plan: Plan) -> dict[str, Any]:
    """A plan as JSON."""
    value: dict[str, Any] = msgspec.to_builtins(plan)
    return value


def restored(value: Mapping[str, Any]) -> Plan:
    """A plan that was stored."""
    return codec.convert(value, Plan, malformed="internal")

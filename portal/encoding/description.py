"""An encoding description as values: what ``portal.encoding.parser`` makes of the text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from portal.encoding.keywords import Keyword, PinSource

Relation = Literal["always", "success", "never"]


@dataclass(frozen=True, slots=True)
class FieldRef:
    """A declared field."""

    name: str


@dataclass(frozen=True, slots=True)
class Text:
    """A literal, a word or the rest of the line."""

    text: str


@dataclass(frozen=True, slots=True)
class PinWord:
    """A PIN that is entered at the card's place."""

    source: PinSource


Value = FieldRef | Text | PinWord


class Setting(NamedTuple):
    """``KEYWORD=VALUE``.

    Attributes:
        keyword: its row of the table.
        value: what it says.
        line: where, from 1.
        word: the value as written.
    """

    keyword: Keyword
    value: Value
    line: int
    word: str


@dataclass(frozen=True, slots=True)
class Section:
    """A section.

    Attributes:
        name: as written, without brackets.
        line: of its head.
        settings: keyword to setting.
    """

    name: str
    line: int
    settings: dict[str, Setting] = field(default_factory=dict)

    def has(self, keyword: str) -> bool:
        """Whether a flag is true, or anything else is there at all."""
        setting = self.settings.get(keyword)
        return setting is not None and setting.word != "false"

    def text(self, keyword: str) -> str | None:
        """A word or text; None where the keyword is missing or refers to a field."""
        setting = self.settings.get(keyword)
        return setting.value.text if setting is not None and isinstance(setting.value, Text) else None

    def value(self, keyword: str) -> Value | None:
        """A value; None where the keyword is missing."""
        setting = self.settings.get(keyword)
        return None if setting is None else setting.value

    def line_of(self, keyword: str) -> int:
        """Where a keyword stands; the section's own line where it is missing."""
        setting = self.settings.get(keyword)
        return self.line if setting is None else setting.line

    @property
    def relation(self) -> Relation:
        """``CreateObjectRelation`` of an application."""
        match self.text("CreateObjectRelation"):
            case "always":
                return "always"
            case "never":
                return "never"
            case _:
                return "success"


@dataclass(frozen=True, slots=True)
class Description:
    """A description that has passed all checks that need nothing but itself.

    Attributes:
        fields: declared field to its line.
        encoding: ``[Encoding]``.
        description: ``[Description]``.
        applications: in the order in which they are processed: by the part of the name after ``Application_``.
    """

    fields: dict[str, int]
    encoding: Section
    description: Section
    applications: tuple[Section, ...]

    @property
    def sections(self) -> tuple[Section, ...]:
        """All sections but the fields'."""
        return (self.encoding, self.description, *self.applications)

    @property
    def driver(self) -> Literal["piv", "pkcs11"]:
        """How a card in a reader is talked to that is made by it."""
        return "pkcs11" if self.description.has("PKCS11Library") else "piv"

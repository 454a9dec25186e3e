"""Reads ``*.dsc`` files: any text becomes a ``Description``, or an ``EncodingError`` that names every problem."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final

from portal.encoding import rules, token_rules
from portal.encoding.description import (
    Description,
    FieldRef,
    PinWord,
    Section,
    Setting,
    Text,
    Value,
)
from portal.encoding.keywords import PIN_ENTRIES, TABLE, Keyword, SectionKind, ValueKind
from portal.encoding.problems import EncodingError, Problem, problem

if TYPE_CHECKING:
    from pathlib import Path

MAX_CHARACTERS: Final = 65_536
MAX_LINES: Final = 2_000
MAX_APPLICATIONS: Final = 24
_SECTION: Final = re.compile(r"\[([^\[\]]*)\]")
_APPLICATION: Final = re.compile(r"Application_[A-Za-z0-9_]{1,40}", re.ASCII)
_FIELD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_TYPE: Final = re.compile(r"[0-9]{1,6},[A-Za-z0-9 _-]{1,40}", re.ASCII)


def load(path: Path) -> Description:
    """Read a file.

    Raises:
        EncodingError: it is no description.
        OSError: it can't be read.
    """
    with path.open("rb") as stream:
        raw = stream.read(4 * MAX_CHARACTERS + 1)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise EncodingError([problem("not_text", line, "")]) from None
    return parse(text)


def parse(text: str) -> Description:
    """Read a description and check all that can be checked by itself.

    Raises:
        EncodingError: with every problem, each with its line and word.
    """
    if len(text) > MAX_CHARACTERS:
        raise EncodingError([problem("too_long", 0, f"{len(text)} characters", limit=MAX_CHARACTERS)])
    lines = re.split(r"\r\n|\n|\r", text)
    if len(lines) > MAX_LINES:
        raise EncodingError([problem("too_long", 0, f"{len(lines)} lines", limit=MAX_LINES)])
    reader = _Reader()
    for number, line in enumerate(lines, 1):
        reader.take(number, line.strip())
    return reader.result()


class _Reader:
    """Takes lines; see ``parse``."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._sections: dict[str, Section] = {}
        self._fields: dict[str, int] = {}
        self._current: Section | None = None
        self._skipping = False

    def take(self, number: int, line: str) -> None:
        """Take a line without white space around it."""
        if not line or line.startswith("#"):
            return
        if head := _SECTION.fullmatch(line):
            self._begin(number, head[1].strip())
            return
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name:
            self._wrong("not_a_line", number, line)
        elif self._current is None:
            if not self._skipping:
                self._wrong("outside_section", number, name)
        elif self._current.name == SectionKind.FIELDS:
            self._field(number, name, value)
        else:
            self._setting(self._current, number, name, value)

    def result(self) -> Description:
        """What was read.

        Raises:
            EncodingError: with every problem.
        """
        for kind in (SectionKind.ENCODING, SectionKind.FIELDS, SectionKind.DESCRIPTION):
            if kind.value not in self._sections:
                self._wrong("missing_section", 0, kind.value)
        names = sorted(name for name in self._sections if _APPLICATION.fullmatch(name))
        if len(names) > MAX_APPLICATIONS:
            self._wrong("too_long", 0, f"{len(names)} applications", limit=MAX_APPLICATIONS)
        for section in self._sections.values():
            self._problems += rules.of_section(section, self._fields)
        applications = [self._sections[name] for name in names]
        whole = self._sections.get(SectionKind.DESCRIPTION)
        self._problems += token_rules.of_description(whole, applications)
        if self._problems:
            raise EncodingError(self._problems)
        return Description(
            self._fields,
            self._sections[SectionKind.ENCODING],
            self._sections[SectionKind.DESCRIPTION],
            tuple(applications),
        )

    def _wrong(self, code: str, line: int, word: str, **fields: str | int) -> None:
        self._problems.append(problem(code, line, word, **fields))

    def _begin(self, number: int, name: str) -> None:
        self._current, self._skipping = None, True
        if _kind_of(name) is None:
            self._wrong("unknown_section", number, name)
        elif name in self._sections:
            self._wrong("duplicate_section", number, name, first=self._sections[name].line)
        else:
            self._current = self._sections[name] = Section(name, number)

    def _field(self, number: int, name: str, value: str) -> None:
        if not _FIELD.fullmatch(name):
            self._wrong("bad_field_name", number, name)
        elif name in self._fields:
            self._wrong("duplicate_keyword", number, name, section="Fields", first=self._fields[name])
        else:
            self._fields[name] = number
            if value:
                self._wrong("field_with_value", number, name)

    def _setting(self, section: Section, number: int, name: str, word: str) -> None:
        keyword = TABLE.get(name)
        if keyword is None:
            self._wrong("unknown_keyword", number, name, hint=_hint(name))
        elif keyword.section is not _kind_of(section.name):
            self._wrong("wrong_section", number, name, section=section.name, belongs=f"[{keyword.section}]")
        elif name in section.settings:
            first = section.settings[name].line
            self._wrong("duplicate_keyword", number, name, section=section.name, first=first)
        else:
            value = _value(keyword, word)
            if value is None:
                self._wrong("bad_value", number, word, keyword=name, expected=keyword.expected)
            section.settings[name] = Setting(keyword, value or Text(""), number, word)


def _hint(name: str) -> str:
    """A keyword that is written almost like this one."""
    known = {keyword.lower(): keyword for keyword in TABLE}
    near = difflib.get_close_matches(name[:60].lower(), known, 1)
    return f" Perhaps {known[near[0]]}?" if near else ""


def _kind_of(section: str) -> SectionKind | None:
    if _APPLICATION.fullmatch(section):
        return SectionKind.APPLICATION
    known = (SectionKind.ENCODING, SectionKind.FIELDS, SectionKind.DESCRIPTION)
    return next((kind for kind in known if kind.value == section), None)


def _value(keyword: Keyword, word: str) -> Value | None:
    """What a word means; None where it means nothing."""
    match keyword.kind:
        case ValueKind.FLAG | ValueKind.WORD:
            return Text(word) if word in keyword.words else None
        case ValueKind.NAME:
            return Text(word) if _NAME.fullmatch(word) else None
        case ValueKind.TYPE:
            return Text(word) if _TYPE.fullmatch(word) else None
        case ValueKind.TEXT:
            return Text(word) if word and word.isprintable() else None
        case ValueKind.RETURN:
            return FieldRef(word) if _FIELD.fullmatch(word) else None
        case ValueKind.PIN if word.startswith("!"):
            entry = PIN_ENTRIES.get(word)
            return None if entry is None else PinWord(entry[0])
        case ValueKind.VALUE | ValueKind.PIN:
            return _field_or_literal(keyword, word)


def _field_or_literal(keyword: Keyword, word: str) -> Value | None:
    if word.startswith("#"):
        literal = word[1:]
        return Text(literal) if literal.isprintable() and literal and keyword.fits(literal) else None
    return FieldRef(word) if _FIELD.fullmatch(word) else None

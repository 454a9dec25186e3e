"""Forms: typed fields with default, meaning and validation of each, and one check across them.

A step of a process may have a form (``Form``). A script's options (``Script``) are one that an administrator fills in:
values are kept by name, saved as a whole with a version that goes up, and read once when a process starts, so that a
running process never sees a later change.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from portal.errors import FieldErrors

OptionValue = bool | int | str | list[str]
Values = dict[str, OptionValue]
Kind = Literal["bool", "int", "numbers", "choice", "choices", "template", "text"]

PLACEHOLDERS: Final = ("email", "name", "portal")
"""What a template may hold: ``${email}`` and ``${name}`` of the user, ``${portal}`` the portal's host."""
MAX_TEXT: Final = 150
MAX_NUMBERS: Final = 10


@dataclass(frozen=True, slots=True)
class Option:
    """One option, or one field of a form.

    Attributes:
        name: symbolic name.
        title: label for people.
        meaning: one or two sentences.
        kind: what its value is; ``template`` is a text with placeholders, ``text`` one line without, ``numbers`` up to
            ten whole numbers, largest first, which a form sends as one text with commas.
        default: value after installation, or as the form is first shown.
        choices: for ``choice`` and ``choices``.
        captions: choice to what people read in its place; one that has none is read as it is.
        low: smallest value, for ``int`` and ``numbers``; fewest characters, for ``text``.
        high: largest value, for ``int`` and ``numbers``; most characters, for ``text``.
        unit: for people, for ``int`` and ``numbers``.
    """

    name: str
    title: str
    meaning: str
    kind: Kind
    default: OptionValue
    choices: tuple[str, ...] = ()
    low: int = 0
    high: int = 0
    unit: str = ""
    captions: Mapping[str, str] = field(default_factory=dict, hash=False)

    def caption(self, choice: str) -> str:
        """What people read for a choice."""
        return self.captions.get(choice, choice)

    def parse(self, sent: Sequence[str]) -> OptionValue:
        """Read a form's values for this option.

        Raises:
            FieldErrors: under this option's name.
        """
        match self.kind:
            case "bool":
                return bool(sent) and sent[-1].strip().lower() in ("true", "on", "1", "yes")
            case "choices":
                return self.check(
                    [item for item in self.choices if item in sent] if _all_in(sent, self) else [*sent]
                )
            case "int":
                text = sent[-1].strip() if sent else ""
                if not _is_whole(text):
                    raise FieldErrors(
                        {self.name: f"A whole number from {self.low} to {self.high} is needed."}
                    )
                return self.check(int(text))
            case "numbers":
                numbers = ",".join(sent).replace(",", " ").split()[: MAX_NUMBERS + 1]
                if all(_is_whole(number) for number in numbers):
                    numbers = sorted({str(int(number)) for number in numbers}, key=int, reverse=True)
                return self.check(numbers)
            case "choice" | "template" | "text":
                return self.check(sent[-1].strip() if sent else "")

    def check(self, value: OptionValue) -> OptionValue:
        """Check a value by itself.

        Raises:
            FieldErrors: under this option's name.
        """
        problem = _PROBLEMS[self.kind](self, value)
        if problem:
            raise FieldErrors({self.name: problem})
        return value


def _all_in(sent: Sequence[str], option: Option) -> bool:
    return set(sent) <= set(option.choices)


def _read(option: Option) -> str:
    """The choices as people read them."""
    return ", ".join(
        f"“{option.captions[choice]}”" if choice in option.captions else choice for choice in option.choices
    )


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _bool_problem(_option: Option, value: OptionValue) -> str | None:
    return None if isinstance(value, bool) else "Yes or no is needed."


def _int_problem(option: Option, value: OptionValue) -> str | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and option.low <= value <= option.high
    return None if fits else f"A whole number from {option.low} to {option.high} is needed."


def _numbers_problem(option: Option, value: OptionValue) -> str | None:
    fits = isinstance(value, list) and 1 <= len(value) <= MAX_NUMBERS
    if not fits or not all(
        _is_whole(item) and option.low <= int(item) <= option.high for item in cast(list[str], value)
    ):
        return (
            f"One to {MAX_NUMBERS} whole numbers from {option.low} to {option.high} are needed, with commas."
        )
    ordered = sorted({int(item) for item in cast(list[str], value)}, reverse=True)
    return None if [str(item) for item in ordered] == value else "Each number once, the largest first."


def _choice_problem(option: Option, value: OptionValue) -> str | None:
    return None if value in option.choices else f"One of {_read(option)} is needed."


def _choices_problem(option: Option, value: OptionValue) -> str | None:
    if not isinstance(value, list) or not value:
        return f"At least one of {_read(option)} is needed."
    if len(set(value)) != len(value) or not set(value) <= set(option.choices):
        return f"Only {_read(option)} are possible, each once."
    return None


def _template_problem(_option: Option, value: OptionValue) -> str | None:
    if not isinstance(value, str) or not value:
        return "A text is needed."
    if len(value) > MAX_TEXT or not value.isprintable():
        return f"At most {MAX_TEXT} printable characters are possible."
    template = string.Template(value)
    if not template.is_valid():
        return "A $ stands before something other than a {placeholder}; write $$ for a plain $."
    unknown = sorted(set(template.get_identifiers()) - set(PLACEHOLDERS))
    if unknown:
        known = ", ".join(f"${{{name}}}" for name in PLACEHOLDERS)
        return f"${{{unknown[0]}}} is not known. Known: {known}."
    return None


def _text_problem(option: Option, value: OptionValue) -> str | None:
    if not isinstance(value, str) or len(value) < option.low:
        return "A text is needed." if option.low <= 1 else f"At least {option.low} characters are needed."
    if len(value) > option.high or not value.isprintable():
        return f"At most {option.high} printable characters are possible."
    return None


_PROBLEMS: Final[dict[Kind, Callable[[Option, OptionValue], str | None]]] = {
    "bool": _bool_problem,
    "int": _int_problem,
    "numbers": _numbers_problem,
    "choice": _choice_problem,
    "choices": _choices_problem,
    "template": _template_problem,
    "text": _text_problem,
}


class _Fields:
    """What forms and scripts have in common."""

    __slots__ = ()
    options: tuple[Option, ...]
    across: Callable[[Values], dict[str, str]]

    def defaults(self) -> Values:
        """The values after installation, or as a form is first shown."""
        return {option.name: option.default for option in self.options}

    def parse(self, form: Mapping[str, Sequence[str]]) -> Values:
        """Read and check a form.

        Raises:
            FieldErrors: all that is wrong, not only the first.
        """
        values: Values = {}
        errors: dict[str, str] = {
            name: "There is no such option." for name in form if name not in self._names()
        }
        for option in self.options:
            try:
                values[option.name] = option.parse(form.get(option.name, ()))
            except FieldErrors as error:
                errors |= error.errors
        return self._complete(values, errors)

    def check(self, values: Mapping[str, OptionValue]) -> Values:
        """Check values as stored or given by the command line.

        Raises:
            FieldErrors: all that is wrong, not only the first.
        """
        checked: Values = {}
        errors: dict[str, str] = {
            name: "There is no such option." for name in values if name not in self._names()
        }
        for option in self.options:
            try:
                checked[option.name] = option.check(values.get(option.name, option.default))
            except FieldErrors as error:
                errors |= error.errors
        return self._complete(checked, errors)

    def as_form(self, values: Mapping[str, OptionValue]) -> dict[str, list[str]]:
        """Values as a form would send them."""
        return {
            name: [str(item) for item in value] if isinstance(value, list) else [str(value)]
            for name, value in values.items()
        }

    def _complete(self, values: Values, errors: dict[str, str]) -> Values:
        if not errors:
            errors = self.across(values)
        if errors:
            raise FieldErrors(errors)
        return values

    def _names(self) -> set[str]:
        return {option.name for option in self.options}


def nothing_across(_values: Values) -> dict[str, str]:
    """No rule goes across the fields."""
    return {}


@dataclass(frozen=True, slots=True)
class Form(_Fields):
    """A form.

    Attributes:
        options: its fields, in the order they are shown.
        across: what is wrong when the values are looked at together: field name to a sentence.
    """

    options: tuple[Option, ...] = ()
    across: Callable[[Values], dict[str, str]] = nothing_across


@dataclass(frozen=True, slots=True)
class Script(_Fields):
    """The options of one script.

    Attributes:
        name: symbolic name.
        title: for people.
        options: in the order they are shown.
        across: what is wrong when the values are looked at together: option name to a sentence.
        warn: what to point out though it can be saved: option name to a sentence.
    """

    name: str
    title: str
    options: tuple[Option, ...]
    across: Callable[[Values], dict[str, str]]
    warn: Callable[[Values], dict[str, str]]


def fill(template: str, values: Mapping[str, str]) -> str:
    """Fill in a checked template; at most 200 characters come out."""
    return string.Template(template).substitute(values)[:200]

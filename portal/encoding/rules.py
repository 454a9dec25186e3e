"""What has to hold in a description beyond its single lines; every rule gives problems, none raises."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from portal.encoding.description import FieldRef, PinWord, Section
from portal.encoding.keywords import ValueKind
from portal.encoding.problems import EncodingError, Problem, problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from portal.encoding.description import Description, Setting

_WITH_SET_PIN: Final = ("new", "change", "pad", "auto")
_WITHOUT_SET_PIN: Final = ("verify", "pad", "auto")
_BESIDE_NUMBERS: Final = ("RetrieveAllTokens", "AllTokensIccsnsField", "UseICCSNwithATR", "PKCS11Library")


class Usage(enum.Enum):
    """Which task a description is used by."""

    PRODUCTION = "Card Production"
    """makes a card object"""
    OPERATION = "Card Operation on a card"
    """the process always has a card when the task runs"""
    OPERATION_WITHOUT_CARD = "Card Operation that may run without a card"


def of_section(section: Section, fields: Mapping[str, int]) -> list[Problem]:
    """What is wrong with a section by itself."""
    settings = section.settings.values()
    problems = [
        problem("undeclared_field", item.line, item.value.name)
        for item in settings
        if isinstance(item.value, FieldRef) and item.value.name not in fields
    ]
    problems += [
        problem("missing_keyword", item.line, item.keyword.name, needed=needed, section=section.name)
        for item in settings
        if section.has(item.keyword.name)
        for needed in item.keyword.needs
        if needed not in section.settings
    ]
    return problems + _pin(section) + _alone(section)


def check(description: Description, usage: Usage) -> None:
    """Check a description for the task that uses it.

    Raises:
        EncodingError: ``CreateObjectRelation=always`` in an operation that may run without a card; what reads all
            cards' numbers together with applications.
    """
    problems: list[Problem] = []
    if usage is Usage.OPERATION_WITHOUT_CARD:
        problems += [
            problem("always_without_card", section.line_of("CreateObjectRelation"), section.name)
            for section in description.applications
            if section.relation == "always"
        ]
    if description.description.has("RetrieveAllTokens"):
        line = description.description.line_of("RetrieveAllTokens")
        problems += [
            problem("not_alone", line, "RetrieveAllTokens", other=f"[{section.name}]")
            for section in description.applications
        ]
    if problems:
        raise EncodingError(problems)


def _pin(section: Section) -> list[Problem]:
    setting = section.settings.get("PIN")
    if setting is None or not isinstance(setting.value, PinWord):
        return []
    setting_pin = section.has("SetPIN")
    if setting.value.source not in (_WITH_SET_PIN if setting_pin else _WITHOUT_SET_PIN):
        why = (
            "with SetPIN=true a PIN is new or changed" if setting_pin else "without SetPIN=true no PIN is set"
        )
        return [problem("pin_entry_misfit", setting.line, setting.word, expected=why)]
    known = section.has("InitialPUK") or section.has("InitToken")
    if setting_pin and setting.value.source == "new" and not known:
        why = "a new PIN is set with InitialPUK or InitToken"
        return [problem("pin_entry_misfit", setting.line, setting.word, expected=why)]
    return []


def _alone(section: Section) -> list[Problem]:
    if not section.has("RetrieveAllTokens"):
        return []
    beside: Iterable[Setting] = (
        item
        for item in section.settings.values()
        if section.has(item.keyword.name)
        and item.keyword.kind is not ValueKind.TEXT
        and item.keyword.name not in _BESIDE_NUMBERS
    )
    return [problem("not_alone", item.line, "RetrieveAllTokens", other=item.keyword.name) for item in beside]

"""Card descriptions that an administrator has configured: which encoding makes, and extends, cards of one kind.

Cards without one are PIV cards, made by the descriptions that the portal ships. A configured one is for cards that are
made through PKCS#11. It is read when the portal starts, and everything that is wrong with it is told then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from portal.encoding import binding, parser
from portal.encoding.binding import Encoding, bind
from portal.encoding.description import FieldRef, PinWord
from portal.encoding.keywords import ValueKind
from portal.encoding.problems import EncodingError, problem
from portal.encoding.rules import Usage
from portal.model.options import Option
from portal.processes import encodings
from protocol.errors import InlayError
from protocol.messages import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from portal.encoding.binding import Recoverable
    from portal.encoding.description import Description
    from portal.encoding.plan import Plan
    from portal.encoding.problems import Problem
    from portal.processes.context import Context
    from portal.store.tables import Card

BUILT_IN: Final = "PIV card"
"""What people pick for a card that no configured description makes."""
Check = Callable[["Description"], "list[Problem]"]
CHOICE: Final = "CardDescription"
"""The option, and process variable, by which they do."""


@dataclass(frozen=True, slots=True)
class CardDescription:
    """One kind of card.

    Attributes:
        name: what people call it.
        puk: the PUK (the SO PIN of PKCS#11) that such cards come with.
        issue: how *Issue card* makes it; None: it is for temporary cards alone.
        encode: how a temporary card is encoded for a new holder; None: it is for cards alone.
        extend: how it is extended for the holder that it has.
    """

    name: str
    puk: bytes = field(repr=False)
    issue: Encoding | None = None
    encode: Encoding | None = None
    extend: Encoding | None = None


def issuing(path: Path, fields: Mapping[str, str]) -> Encoding:
    """What *Issue card* does, from a file.

    Args:
        path: the description.
        fields: field to ``${variable}``, beside and before those of the shipped description.

    Raises:
        EncodingError: with every problem.
        OSError: the file can't be read.
    """
    return _read(path, fields, Usage.PRODUCTION, encodings.ISSUE_CARD, _drawn)


def encoding(path: Path, fields: Mapping[str, str]) -> Encoding:
    """What encodes a temporary card for a new holder; see `issuing`."""
    return _read(path, fields, Usage.OPERATION, encodings.ENCODE_TEMPORARY_CARD, _chosen)


def extending(path: Path, fields: Mapping[str, str]) -> Encoding:
    """What extends a temporary card for its holder; see `issuing`."""
    return _read(path, fields, Usage.OPERATION, encodings.EXTEND_TEMPORARY_CARD, _stays)


def option(known: Iterable[str]) -> tuple[Option, ...]:
    """The field by which staff say what kind of card it is; none where there is but one kind."""
    choices = (BUILT_IN, *known)
    if len(choices) == 1:
        return ()
    meaning = "Which card it is. It decides how it is made, and can't be changed later."
    return (Option(CHOICE, "Kind of card", meaning, "choice", BUILT_IN, choices=choices),)


def assign(card: Card, chosen: str) -> None:
    """Say what kind of card a new one is, as staff have picked it."""
    if chosen != BUILT_IN:
        card.described_by, card.driver = chosen, "pkcs11"


def of(context: Context, card: Card) -> CardDescription:
    """The description of a card that has a configured one.

    Raises:
        InlayError: ``card_description_missing``: it isn't configured any more.
    """
    found = context.descriptions.get(card.described_by or "")
    if found is None:
        raise InlayError("card_description_missing", name=card.described_by or "?")
    return found


def needed(encoding: Encoding | None, card: Card) -> Encoding:
    """The part of a description that a process needs.

    Raises:
        InlayError: ``card_description_missing``.
    """
    if encoding is None:
        raise InlayError("card_description_missing", name=card.described_by or "?")
    return encoding


def recovers(encoding: Encoding | None) -> bool:
    """Whether a description puts earlier encryption keys on a card."""
    applications = () if encoding is None else encoding.description.applications
    return any(part.has("RecoverCertificate") for part in applications)


def plan(
    encoding: Encoding,
    card: Card,
    variables: Mapping[str, Any],
    recoverable: Mapping[str, Recoverable] | None = None,
) -> Plan:
    """What a configured description does now.

    Args:
        encoding: the description.
        card: the card.
        variables: the process's.
        recoverable: the certificates that may be recovered, by id.

    Raises:
        InlayError: ``card_description_unfit``: what the options say can't be done by it.
    """
    try:
        return binding.plan(encoding, variables, recoverable, driver="pkcs11")
    except EncodingError as error:
        raise InlayError(
            "card_description_unfit", name=card.described_by or "?", problem=str(error.problems[0])
        ) from None


def _read(path: Path, fields: Mapping[str, str], usage: Usage, shipped: Encoding, pin: Check) -> Encoding:
    description = parser.load(path)
    whole = description.description
    problems = [*_only_known(description, fields, shipped)]
    if description.driver != "pkcs11":
        problems.append(problem("library_missing", whole.line, whole.name))
    if not description.applications:
        problems.append(problem("no_applications", 0, ""))
    problems += pin(description)
    known = {name: f"${{{variable}}}" for name, variable in _variables(shipped).items()}
    declared = {name: value for name, value in known.items() if name in description.fields}
    mapping = {**declared, **{name: value for name, value in fields.items() if name in description.fields}}
    try:
        bound = bind(description, usage, mapping)
    except EncodingError as error:
        raise EncodingError([*problems, *error.problems]) from None
    if problems:
        raise EncodingError(problems)
    return bound


def _only_known(description: Description, fields: Mapping[str, str], shipped: Encoding) -> Iterable[Problem]:
    """A variable that is read has to be one that the process has."""
    known = {f"${{{name}}}" for name in _variables(shipped).values()}
    for section in description.sections:
        for setting in section.settings.values():
            reads = isinstance(setting.value, FieldRef) and setting.keyword.kind is not ValueKind.RETURN
            word = fields.get(setting.word) if reads else None
            if word is not None and word not in known:
                expected = f"the variables of this process are {', '.join(sorted(known))}"
                yield problem("bad_mapping", setting.line, word, expected=expected)


def _variables(shipped: Encoding) -> dict[str, str]:
    """Field to variable: those of the shipped description, and what every encoding of a card in a reader has."""
    sources = {f"{purpose.value.upper()}_SOURCE": f"{purpose.value}_source" for purpose in Purpose}
    return {**shipped.variables, **sources, "LABEL": "label"}


def _drawn(description: Description) -> list[Problem]:
    section = description.description
    fits = section.has("SetPIN") and isinstance(section.value("PIN"), FieldRef)
    return [] if fits else [_misfit(description, "first_pin_of_portal")]


def _chosen(description: Description) -> list[Problem]:
    section, value = description.description, description.description.value("PIN")
    chosen = isinstance(value, PinWord) and value.source == "new"
    return [] if section.has("SetPIN") and chosen else [_misfit(description, "first_pin_of_holder")]


def _stays(description: Description) -> list[Problem]:
    return [_misfit(description, "pin_stays")] if description.description.has("SetPIN") else []


def _misfit(description: Description, code: str) -> Problem:
    section = description.description
    keyword = "SetPIN" if code == "pin_stays" else "PIN"
    setting = section.settings.get(keyword)
    return problem(code, section.line_of(keyword), "(none)" if setting is None else setting.word)

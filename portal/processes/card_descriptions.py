"""Card descriptions that an administrator has configured: which encoding makes, and extends, cards of one kind.

A kind of card that is made through PKCS#11 comes with a PUK of its own (``puk_file``), and needs descriptions. PIV
cards are made by those that the portal ships, where none is configured in their place: for a kind of them, or under the
name `BUILT_IN` for all that are of no other kind. Descriptions are read when the portal starts, and everything that is
wrong with them is told then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from portal.encoding import binding, parser, piv_rules
from portal.encoding.binding import bind
from portal.encoding.description import FieldRef, PinWord
from portal.encoding.keywords import ValueKind
from portal.encoding.piv_rules import Part
from portal.encoding.problems import EncodingError, problem
from portal.encoding.rules import Usage
from portal.model.options import Option
from portal.processes import encodings
from protocol.errors import InlayError
from protocol.messages import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from portal.encoding.binding import Encoding, Recoverable
    from portal.encoding.description import Description, Section, Setting
    from portal.encoding.plan import Plan
    from portal.encoding.problems import Problem
    from portal.processes.context import Context
    from portal.store.tables import Card

BUILT_IN: Final = "PIV card"
"""What people pick for a card that no configured description makes."""
Check = Callable[["Description", "Mapping[str, str]"], "list[Problem]"]
_WORDS: Final = {"LABEL": "label", "HOLDER": "holder", "HOLDER_NAME": "holder_name"}
"""Field to variable of what every encoding of a card in a reader has in words: its name, its holder's mail and name."""
CHOICE: Final = "CardDescription"
"""The option, and process variable, by which they do."""


@dataclass(frozen=True, slots=True)
class CardDescription:
    """One kind of card.

    Attributes:
        name: what people call it.
        puk: the PUK (the SO PIN of PKCS#11) that such cards come with; None: they are PIV cards, which come with that
            of ``factory_cards``.
        parts: what is done by a description of its own.
    """

    name: str
    puk: bytes | None = field(repr=False)
    parts: Mapping[Part, Encoding] = field(default_factory=dict)

    @property
    def driver(self) -> Literal["piv", "pkcs11"]:
        """How such a card is talked to."""
        return "piv" if self.puk is None else "pkcs11"

    def makes(self, part: Part) -> bool:
        """Whether there is a description for it; for what isn't described of a PIV card one ships."""
        return self.puk is None or part in self.parts


def of_token(part: Part, path: Path, fields: Mapping[str, str]) -> Encoding:
    """Read what is done with a card that is made through PKCS#11, from a file.

    Args:
        part: what it is for: ``issue``, ``encode`` or ``extend``.
        path: the description.
        fields: field to ``${variable}``, beside and before those of the shipped description.

    Raises:
        EncodingError: with every problem.
        OSError: the file can't be read.
    """
    return _read(part, path, fields, lambda description, _: _wrong_for_token(description, part))


def of_piv(part: Part, path: Path, fields: Mapping[str, str]) -> Encoding:
    """Read what is done with a PIV card, from a file; see `of_token`. Any part may be described."""
    return _read(
        part, path, fields, lambda description, mapping: piv_rules.of_description(description, part, mapping)
    )


def option(known: Iterable[str]) -> tuple[Option, ...]:
    """The field by which staff say what kind of card it is; none where there is but one kind."""
    choices = (BUILT_IN, *(name for name in known if name != BUILT_IN))
    if len(choices) == 1:
        return ()
    meaning = "Which card it is. It decides how it is made, and can't be changed later."
    return (Option(CHOICE, "Kind of card", meaning, "choice", BUILT_IN, choices=choices),)


def driver_of(context: Context, chosen: str) -> Literal["piv", "pkcs11"]:
    """How a kind of card is talked to, as staff have picked it."""
    return "piv" if chosen == BUILT_IN else context.descriptions[chosen].driver


def assign(context: Context, card: Card, chosen: str) -> None:
    """Say what kind of card a new one is, as staff have picked it."""
    if chosen != BUILT_IN:
        card.described_by, card.driver = chosen, driver_of(context, chosen)


def of(context: Context, card: Card) -> CardDescription:
    """The description of a card that has a configured one.

    Raises:
        InlayError: ``card_description_missing``: it isn't configured any more.
    """
    found = context.descriptions.get(card.described_by or "")
    if found is None:
        raise InlayError("card_description_missing", name=card.described_by or "?")
    return found


def part_of(context: Context, card: Card, part: Part) -> Encoding | None:
    """The description by which something is done with a card; None: the one that the portal ships.

    Raises:
        InlayError: ``card_description_missing``: it isn't configured any more.
    """
    if card.described_by is None:
        found = context.descriptions.get(BUILT_IN)
        return None if found is None else found.parts.get(part)
    encoding = of(context, card).parts.get(part)
    if encoding is None and card.driver == "pkcs11":
        raise InlayError("card_description_missing", name=card.described_by)
    return encoding


def pin_word(context: Context, card: Card, part: Part) -> Setting | None:
    """What the description of a part says of a PIN; None: nothing, or it isn't configured (any more)."""
    found = context.descriptions.get(card.described_by or BUILT_IN)
    encoding = None if found is None else found.parts.get(part)
    return None if encoding is None else encoding.description.description.settings["PIN"]


def recovers(encoding: Encoding) -> bool:
    """Whether a description puts earlier encryption keys on a card."""
    return any(section.has("RecoverCertificate") for section in encoding.description.applications)


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
    driver: Literal["piv", "pkcs11"] = "pkcs11" if card.driver == "pkcs11" else "piv"
    try:
        return binding.plan(encoding, variables, recoverable, driver=driver)
    except EncodingError as error:
        raise unfit(card, error.problems[0]) from None


def unfit(card: Card, problem: Problem) -> InlayError:
    """``card_description_unfit``: what a card's description says can't be done, now or with these options."""
    return InlayError("card_description_unfit", name=card.described_by or BUILT_IN, problem=str(problem))


def _read(part: Part, path: Path, fields: Mapping[str, str], check: Check) -> Encoding:
    description = parser.load(path)
    usage = Usage.PRODUCTION if part is Part.ISSUE else Usage.OPERATION
    known = {name: f"${{{variable}}}" for name, variable in _variables(part).items()}
    declared = {name: value for name, value in known.items() if name in description.fields}
    mapping = {**declared, **{name: value for name, value in fields.items() if name in description.fields}}
    problems = [*_only_known(description, fields, part), *check(description, mapping)]
    try:
        bound = bind(description, usage, mapping)
    except EncodingError as error:
        raise EncodingError([*problems, *error.problems]) from None
    if problems:
        raise EncodingError(problems)
    return bound


def _only_known(description: Description, fields: Mapping[str, str], part: Part) -> Iterable[Problem]:
    """A variable that is read has to be one that the process has."""
    known = {f"${{{name}}}" for name in _variables(part).values()}
    for section in description.sections:
        for setting in section.settings.values():
            reads = isinstance(setting.value, FieldRef) and setting.keyword.kind is not ValueKind.RETURN
            word = fields.get(setting.word) if reads else None
            if word is not None and word not in known:
                expected = f"the variables of this process are {', '.join(sorted(known))}"
                yield problem("bad_mapping", setting.line, word, expected=expected)


def _variables(part: Part) -> Mapping[str, str]:
    """Field to variable: those of the shipped description, and what every encoding of a card in a reader has."""
    if not part.writes:
        return {"PUK": "card"}
    sources = {f"{purpose.value.upper()}_SOURCE": f"{purpose.value}_source" for purpose in Purpose}
    return {**encodings.OF_CARDS[part].variables, **sources, **_WORDS}


def _wrong_for_token(description: Description, part: Part) -> list[Problem]:
    """What is wrong beyond what ``token_rules`` have said."""
    section = description.description
    problems = []
    if description.driver != "pkcs11":
        problems.append(problem("library_missing", section.line, section.name))
    if not description.applications:
        problems.append(problem("no_applications", 0, ""))
    value = section.value("PIN")
    drawn = section.has("SetPIN") and isinstance(value, FieldRef)
    chosen = section.has("SetPIN") and isinstance(value, PinWord) and value.source == "new"
    if part is Part.ISSUE and not drawn:
        problems.append(_misfit(section, "first_pin_of_portal"))
    elif part is Part.ENCODE and not chosen:
        problems.append(_misfit(section, "first_pin_of_holder"))
    elif part is Part.EXTEND and section.has("SetPIN"):
        problems.append(_misfit(section, "pin_stays"))
    return problems


def _misfit(section: Section, code: str) -> Problem:
    keyword = "SetPIN" if code == "pin_stays" else "PIN"
    setting = section.settings.get(keyword)
    return problem(code, section.line_of(keyword), "(none)" if setting is None else setting.word)

"""What options of cards have no say in, because descriptions of cards say it in so many words: for the options' page.

A description reads options by its fields alone (``docs/adr/0032-a-description-decides-before-the-options.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from portal.encoding.description import FieldRef
from portal.encoding.piv_rules import Part
from portal.model import card_options
from portal.processes.card_descriptions import BUILT_IN
from protocol.messages import Purpose

if TYPE_CHECKING:
    from portal.encoding.binding import Encoding
    from portal.encoding.description import Section
    from portal.processes.card_descriptions import CardDescription


class Overruled(NamedTuple):
    """What is said of one option.

    Attributes:
        notes: one for each kind of card whose description says something of it, in words for people.
        wholly: no kind of card is left that the option has a say in.
    """

    notes: tuple[str, ...]
    wholly: bool


class _Said(NamedTuple):
    """What one description says of an option: its words, and whether it leaves anything to the option."""

    words: str
    wholly: bool


_SOURCES: Final = {
    "generate": "made on the card",
    "import": "from the archive",
    "import_if_possible": "from the archive where the card takes it",
    "keep": "stays",
}
_PARTS: Final = {
    Part.ISSUE: "when it is issued",
    Part.ENCODE: "for a new holder",
    Part.EXTEND: "when it is extended",
    Part.CHANGE_PIN: "to change the PIN",
    Part.UNBLOCK_PIN: "to unblock it",
    Part.VERIFY_PIN: "wherever else it is asked for",
}
_ALWAYS: Final = "always"
_LEFT: Final = "left to the option"


def of_script(script: str, kinds: Mapping[str, CardDescription]) -> dict[str, Overruled]:
    """Option to what descriptions say of it; options that none says anything of aren't there.

    Args:
        script: name of the options' script.
        kinds: the configured kinds of cards, by name.
    """
    found = {
        option: _overruled(kinds, parts, says) for option, (parts, says) in _OPTIONS.get(script, {}).items()
    }
    return {option: overruled for option, overruled in found.items() if overruled.notes}


def _overruled(kinds: Mapping[str, CardDescription], parts: tuple[Part, ...], says: _Says) -> Overruled:
    notes, wholly = [], BUILT_IN in kinds
    for name, kind in kinds.items():
        described = {part: kind.parts[part] for part in parts if part in kind.parts}
        said = {part: says(encoding) for part, encoding in described.items()}
        known = {part: item for part, item in said.items() if item is not None and item.words}
        if known:
            notes.append(f"“{name}”: {_text(known, len(parts))}")
        # cards through PKCS#11 that aren't described aren't made; their PINs are typed as the option says
        applies = [part for part in parts if kind.makes(part) or not part.writes]
        wholly = wholly and all((item := said.get(part)) is not None and item.wholly for part in applies)
    return Overruled(tuple(notes), wholly)


def _text(said: Mapping[Part, _Said], parts: int) -> str:
    """Once where all parts that the option counts for say the same."""
    if len(said) == parts and len({item.words for item in said.values()}) == 1:
        return f"{next(iter(said.values())).words}."
    return "; ".join(f"{item.words} {_PARTS[part]}" for part, item in said.items()) + "."


# --- what a description says of one option


def _certificates(encoding: Encoding) -> _Said | None:
    sections = _requested(encoding)
    if sections is None:
        return None
    found = {}
    for purpose in Purpose:
        chosen = [
            "left out"
            if section.text("OnlyIf") == "false"
            else _LEFT
            if _is_field(section, "OnlyIf")
            else _ALWAYS
            for section in sections
            if section.text("CertificateTemplate") == purpose
        ]
        found[purpose] = _ALWAYS if _ALWAYS in chosen else _LEFT if _LEFT in chosen else "never"
    words = ", ".join(f"{purpose.value} {chosen}" for purpose, chosen in found.items() if chosen != _LEFT)
    return _Said(words, wholly=_LEFT not in found.values())


def _algorithm(encoding: Encoding) -> _Said | None:
    return _literals(encoding, "KeyAlgorithm", lambda text: text)


def _source(encoding: Encoding) -> _Said | None:
    return _literals(encoding, "KeySource", lambda text: _SOURCES[text], Purpose.ENCRYPTION, "generate")


def _new_keys(encoding: Encoding) -> _Said | None:
    def new(text: str) -> str:
        return "stays" if text == "keep" else "a new one"

    return _literals(encoding, "KeySource", new, missing="generate")


def _pin_entry(encoding: Encoding) -> _Said | None:
    return _Said("as its description says", wholly=True)


def _attestation(encoding: Encoding) -> _Said | None:
    if encoding.description.driver != "pkcs11":
        return None
    return _Said("can't prove it: refused where it is required, and not asked otherwise", wholly=True)


def _literals(
    encoding: Encoding,
    keyword: str,
    words: Callable[[str], str],
    only: Purpose | None = None,
    missing: str | None = None,
) -> _Said | None:
    """What stands in so many words at a keyword of the keys that certificates are requested for."""
    sections = _requested(encoding)
    if sections is None:
        return None
    told, wholly = [], True
    for section in sections:
        if only is not None and section.text("CertificateTemplate") != only:
            continue
        text = missing if keyword not in section.settings else section.text(keyword)
        wholly = wholly and text is not None
        if text is not None:
            told.append(f"{section.text('KeyReference') or section.name} {words(text)}")
    return _Said(", ".join(told), wholly=wholly)


def _requested(encoding: Encoding) -> list[Section] | None:
    """Applications that request certificates; None where a variable says of what template, which is left open."""
    found = [part for part in encoding.description.applications if part.has("CertificateTemplate")]
    return None if any(part.text("CertificateTemplate") is None for part in found) else found


def _is_field(section: Section, keyword: str) -> bool:
    return isinstance(section.value(keyword), FieldRef)


_Says = Callable[["Encoding"], "_Said | None"]
_ISSUED: Final = (Part.ISSUE,)
_ENCODED: Final = (Part.ENCODE, Part.EXTEND)
_PIN: Final = (Part.CHANGE_PIN, Part.UNBLOCK_PIN, Part.VERIFY_PIN)
_OPTIONS: Final[Mapping[str, Mapping[str, tuple[tuple[Part, ...], _Says]]]] = {
    card_options.CARDS: {
        "CardsCertificates": (_ISSUED, _certificates),
        "CardsKeyAlgorithm": (_ISSUED, _algorithm),
        "CardsRecoverEncryption": (_ISSUED, _source),
        "CardsAttestation": (_ISSUED, _attestation),
        card_options.CARDS_PIN_ENTRY: (_PIN, _pin_entry),
    },
    card_options.TEMPORARY_CARDS: {
        "TempCardsCertificates": (_ENCODED, _certificates),
        "TempCardsNewKeys": ((Part.EXTEND,), _new_keys),
        "TempCardsKeyAlgorithm": (_ENCODED, _algorithm),
        "TempCardsRecoverEncryption": (_ENCODED, _source),
        "TempCardsAttestation": (_ENCODED, _attestation),
        card_options.TEMPORARY_CARDS_PIN_ENTRY: ((Part.EXTEND, *_PIN), _pin_entry),
    },
}

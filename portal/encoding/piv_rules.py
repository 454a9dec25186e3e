"""What can't stand in an administrator's description of a PIV card, each with its line and cause.

They are the limits of a PIV card (SP 800-73pt1-5, table 4b; SP 800-73pt2-5) and of the agent's driver ``piv``. What a
single card lacks besides, only the machine with the card can tell.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from portal.encoding import object_rules
from portal.encoding.description import FieldRef, PinWord, Text
from portal.encoding.keywords import RETIRED
from portal.encoding.problems import Problem, problem
from portal.encoding.token_rules import SIGNING
from protocol import key_policies
from protocol.messages import KeyPinPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portal.encoding.description import Description, Section
    from portal.encoding.keywords import PinSource


class Part(enum.StrEnum):
    """What a description of a PIV card is for; the words of ``card_descriptions``."""

    ISSUE = "issue"
    """*Issue card* makes it"""
    ENCODE = "encode"
    """a temporary card is encoded for a new holder"""
    EXTEND = "extend"
    """it is extended for the holder that it has"""
    CHANGE_PIN = "change_pin"
    UNBLOCK_PIN = "unblock_pin"
    VERIFY_PIN = "verify_pin"
    """whatever asks for the PIN that the card has, and leaves it: check, activate, sign"""

    @property
    def writes(self) -> bool:
        """Whether it gives the card certificates."""
        return self in (Part.ISSUE, Part.ENCODE, Part.EXTEND)


_CODES: Final = {
    Part.ISSUE: "first_pin_of_portal",
    Part.ENCODE: "piv_first_pin",
    Part.EXTEND: "piv_pin_stays",
    Part.CHANGE_PIN: "piv_pin_changed",
    Part.UNBLOCK_PIN: "piv_pin_unblocked",
    Part.VERIFY_PIN: "piv_pin_stays",
}
"""What is said of a PIN entry that a part can't have."""
_SETS: Final = frozenset({Part.ISSUE, Part.ENCODE, Part.CHANGE_PIN, Part.UNBLOCK_PIN})
_BY_PUK: Final = frozenset({Part.ISSUE, Part.ENCODE, Part.UNBLOCK_PIN})
_ENTRIES: Final[Mapping[Part, frozenset[PinSource]]] = {
    Part.ISSUE: frozenset(),
    Part.ENCODE: frozenset({"new", "auto"}),
    Part.EXTEND: frozenset({"verify", "pad", "auto"}),
    Part.CHANGE_PIN: frozenset({"change", "pad", "auto"}),
    Part.UNBLOCK_PIN: frozenset({"new", "pad", "auto"}),
    Part.VERIFY_PIN: frozenset({"verify", "pad", "auto"}),
}
_OTHERS: Final = {
    "PKCS11Library": "it is for cards that are made through PKCS#11, which come with a puk_file",
    "MiniDriverLibrary": "Inlay talks to a PIV card by itself",
    "InitToken": "no command erases such a card; what Inlay has put on it is replaced, and what a former holder has "
    "left is removed",
    "InitialLabel": "it has no place for a label (SP 800-73). Programs show the name in the certificate of 9A; what "
    "else is to stand on it goes to a data object (ObjectReference)",
    "PUK": "the PUK by which its PIN is set is InitialPUK",
    "CardManagerKey": "the portal proves its management key itself (factory_cards)",
    "BlockCard": "a card that is made is not blocked; the process Block card does that",
    "RetrieveAllTokens": "it reads numbers, and makes no card",
    "UseSelectCriteriaIccsn": "the card is found by the serial number that it has at the portal",
    "SelectCriteriaIccsn": "the card is found by the serial number that it has at the portal",
    "WriteCertificate": "a certificate comes with CertificateTemplate or RecoverCertificate",
    "WriteCertKeyList": "certificates come with CertificateTemplate or RecoverCertificate",
}


def of_description(description: Description, part: Part, variables: Mapping[str, str]) -> list[Problem]:
    """What is wrong with an administrator's description of a PIV card.

    Args:
        description: the description.
        part: what it is for.
        variables: field to process variable.
    """
    whole = description.description
    problems = [*_others(whole), *_pin(whole, part), *_card_itself(whole, variables)]
    for section in description.applications:
        problems += _others(section)
        if part.writes:
            problems += _application(section, part)
        else:
            problems.append(problem("piv_pin_only", section.line, section.name))
    if part.writes and not description.applications:
        problems.append(problem("no_applications", 0, ""))
    return problems + _slots(description) + object_rules.of_all(description.applications)


def of_key(slot: str, template: str, source: str, *, recovers: bool) -> str | None:
    """What is wrong with a key, whether its words stand in the description or in a process's variables.

    Args:
        slot: its reference; empty where that isn't known yet.
        template: of its certificate; empty where that isn't known yet.
        source: where it comes from; empty where that isn't known yet.
        recovers: it is recovered from the archive.

    Returns:
        Key of ``problems.CAUSES``; None: nothing.
    """
    if not slot:
        return None
    if recovers or slot in RETIRED:
        fits = recovers and slot in RETIRED
        return None if fits else ("piv_recovery_place" if recovers else "piv_retired")
    if template and (template == "encryption") is (slot in SIGNING):
        return "piv_key_use"
    return "piv_import" if source.startswith("import") and slot in SIGNING else None


def of_policy(slot: str, pin: str) -> bool:
    """Whether a key may ask for the PIN like this: as often as the standard has it for its place, or more often.

    Args:
        slot: its reference; empty where that isn't known yet.
        pin: a word of ``KeyPINPolicy``; empty where it isn't known yet, or there is none.
    """
    return not slot or not pin or not key_policies.is_weaker(slot, KeyPinPolicy(pin))


def weaker_pin(section: Section, slot: str, pin: str) -> Problem:
    """What is said of one that may not."""
    standard = key_policies.standard_pin(slot).value
    return problem("piv_weaker_pin", section.line_of("KeyPINPolicy"), slot, pin=pin, standard=standard)


def _application(section: Section, part: Part) -> list[Problem]:
    if section.has("ObjectReference"):
        return object_rules.of_application(section)
    recovers = section.has("RecoverCertificate")
    if not recovers and not section.has("CertificateTemplate"):
        return [problem("orders_nothing", section.line, section.name)]
    slot, template = section.text("KeyReference") or "", section.text("CertificateTemplate") or ""
    source = section.text("KeySource") or ""
    found = []
    code = of_key(slot, template, source, recovers=recovers)
    if code is not None:
        line = section.line_of("KeySource" if code == "piv_import" else "KeyReference")
        found.append(problem(code, line, slot, template=template, source=source))
    pin = section.text("KeyPINPolicy") or ""
    if not of_policy(slot, pin):
        found.append(weaker_pin(section, slot, pin))
    if source == "keep" and part is not Part.EXTEND:
        found.append(problem("piv_nothing_kept", section.line_of("KeySource"), slot or section.name))
    return found


def _slots(description: Description) -> list[Problem]:
    """Keys that two applications name: a PIV card has one key and one certificate in each place."""
    found, seen = [], set()
    for section in description.applications:
        slot = section.text("KeyReference")
        if slot in seen:
            found.append(problem("slot_twice", section.line_of("KeyReference"), slot or ""))
        if slot is not None:
            seen.add(slot)
    return found


def _pin(section: Section, part: Part) -> list[Problem]:
    setting = section.settings.get("PIN")
    if setting is None:
        return [problem("piv_pin_missing", section.line, "PIN")]
    match setting.value:
        case PinWord(source):
            fits = source in _ENTRIES[part]
        case FieldRef():
            fits = part is Part.ISSUE  # the portal draws it
        case Text():
            fits = False
    by_puk = section.settings.get("InitialPUK")
    fits = fits and section.has("SetPIN") is (part in _SETS) and (by_puk is not None) is (part in _BY_PUK)
    found = []
    if not fits:
        shown = "#…" if isinstance(setting.value, Text) else setting.word  # a PIN isn't repeated
        found.append(problem(_CODES[part], setting.line, shown))
    if by_puk is not None and not isinstance(by_puk.value, FieldRef):
        found.append(problem("piv_puk_literal", by_puk.line, "InitialPUK"))
    return found


def _card_itself(section: Section, variables: Mapping[str, str]) -> list[Problem]:
    """PUK and drawn PIN are found by the card that they are of."""
    found = []
    for keyword in ("InitialPUK", "PIN"):
        setting = section.settings.get(keyword)
        if setting is None or not isinstance(setting.value, FieldRef):
            continue
        held = variables.get(setting.value.name)
        if held not in (None, "${card}"):
            found.append(
                problem(
                    "bad_mapping", setting.line, held, expected=f"{keyword} is that of the card, ${{card}}"
                )
            )
    return found


def _others(section: Section) -> list[Problem]:
    return [
        problem("piv_cant", section.line_of(keyword), keyword, expected=why)
        for keyword, why in _OTHERS.items()
        if section.has(keyword)
    ]

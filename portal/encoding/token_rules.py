"""What can't stand in the description of a card that is made through PKCS#11 (``PKCS11Library``), each with its cause.

They are the limits of PKCS#11 itself (v3.1: C_InitToken, C_InitPIN, C_Login) and of the agent's driver. What a single
module lacks besides, only the machine with the card can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portal.encoding.description import FieldRef, PinWord, Text
from portal.encoding.problems import Problem, problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portal.encoding.description import Section, Setting

LIBRARY: Final = "PKCS11Library"
SIGNING: Final = frozenset({"9A", "9C", "9E"})
"""Keys that sign; all others decrypt (SP 800-73pt1-5, table 4b)."""
WITHOUT_PIN: Final = "9E"
_OTHERS: Final = {
    "PUK": "the PUK by which the card is made is InitialPUK",
    "UseSelectCriteriaIccsn": "the card is found by the serial number that it has at the portal",
    "SelectCriteriaIccsn": "the card is found by the serial number that it has at the portal",
    "ObjectReference": "only PIV cards have data objects by tags",
    "KeyPINPolicy": "PKCS#11 has no word for it, and its maker's module decides when a key asks for the PIN",
    "KeyTouchPolicy": "PKCS#11 has no word for it, and its maker's module decides when a key asks for a touch",
    "RetrieveAllTokens": "it reads numbers, and makes no card",
    "WriteCertificate": "a certificate comes with CertificateTemplate or RecoverCertificate",
    "WriteCertKeyList": "certificates come with CertificateTemplate or RecoverCertificate",
}
_SETS: Final = {
    "change": "the old PIN isn't asked for while a card is made; Change PIN does that",
    "pad": "the PIN is set by the PUK, which the portal has: nobody could type it at the reader",
}


def of_description(section: Section | None, applications: Iterable[Section]) -> list[Problem]:
    """What is wrong with a description that has ``PKCS11Library``; nothing with another one.

    Args:
        section: ``[Description]``, where there is one.
        applications: the applications.
    """
    if section is None or not section.has(LIBRARY):
        return []
    problems = _whole(section) + _pin(section) + _others(section)
    erases = section.has("InitToken")
    for part in applications:
        problems += _others(part)
        slot, source = part.text("KeyReference"), part.text("KeySource")
        code = of_key(slot or "", source or "generate", erases=erases)
        if code is not None:
            keyword = "KeyReference" if code == "token_key_without_pin" else "KeySource"
            problems.append(problem(code, part.line_of(keyword), slot or part.name))
    return problems


def of_key(slot: str, source: str, *, erases: bool) -> str | None:
    """What is wrong with a key, whether its words stand in the description or in a process's variables.

    Args:
        slot: its reference; empty where that isn't known yet.
        source: where it comes from.
        erases: the card is erased before.

    Returns:
        Key of ``problems.CAUSES``; None: nothing.
    """
    if slot == WITHOUT_PIN:
        return "token_key_without_pin"
    if source.startswith("import") and slot in SIGNING:
        return "token_import"
    return "token_erased_key" if source == "keep" and erases else None


def _whole(section: Section) -> list[Problem]:
    erases, sets, puk = section.has("InitToken"), section.has("SetPIN"), section.settings.get("InitialPUK")
    wrong = {
        "two_libraries": ("MiniDriverLibrary", section.has("MiniDriverLibrary")),
        "token_management_key": ("CardManagerKey", section.has("CardManagerKey")),
        "token_block": ("BlockCard", section.has("BlockCard")),
        "token_label": ("InitialLabel", section.has("InitialLabel") and not erases),
        "token_erased": ("InitToken", erases and not sets),
        "token_puk_missing": ("InitToken" if erases else "SetPIN", (erases or sets) and puk is None),
        "token_puk_literal": ("InitialPUK", puk is not None and not isinstance(puk.value, FieldRef)),
    }
    return [
        problem(code, section.line_of(keyword), keyword) for code, (keyword, found) in wrong.items() if found
    ]


def _pin(section: Section) -> list[Problem]:
    setting = section.settings.get("PIN")
    if setting is None:
        return [problem("token_pin_missing", section.line_of(LIBRARY), "PIN")]
    why = _why_not(setting, sets=section.has("SetPIN"))
    if why is None:
        return []
    shown = "#…" if isinstance(setting.value, Text) else setting.word  # a PIN isn't repeated
    return [problem("token_pin_entry", setting.line, shown, expected=why)]


def _why_not(setting: Setting, *, sets: bool) -> str | None:
    if isinstance(setting.value, Text):
        return "one PIN for all cards is none"
    if isinstance(setting.value, PinWord):
        return _SETS.get(setting.value.source) if sets else None
    return None if sets else "the portal knows no PIN that a card has already; its holder types it"


def _others(section: Section) -> list[Problem]:
    return [
        problem("token_cant", section.line_of(keyword), keyword, expected=why)
        for keyword, why in _OTHERS.items()
        if section.has(keyword)
    ]

"""What a page is told of the computer that it is open on: of the doctor's findings those that a page may know.

The agent names a code; the words are here and come to pages by the generated tables, so that nobody who sits on the
agent's port writes a sentence of ours. No path, no serial number, no ATR, no command for an administrator.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

FindingCode = Literal[
    "service_answers",
    "service_missing",
    "service_stopped",
    "service_dead",
    "service_silent",
    "service_failing",
    "service_refused",
    "reader_undriven",
    "reader_none",
    "card_driver",
    "card_unmapped",
    "card_bare",
    "card_module_missing",
    "card_unread",
    "card_busy",
    "card_last_try",
    "card_blocked",
]


class PageFinding(NamedTuple):
    """One row: ``{kind}`` and ``{driver}`` are filled in from the finding.

    Attributes:
        level: how bad it is.
        happened: what was found.
        next_step: what to do; empty when there is nothing to do.
    """

    level: Literal["ok", "note", "problem"]
    happened: str
    next_step: str


_DOCTOR: Final = "Ask your support; inlay doctor, typed at this computer, says what to do."
PAGE_FINDINGS: Final[dict[FindingCode, PageFinding]] = {
    "service_answers": PageFinding("ok", "The PC/SC service answers.", ""),
    "service_missing": PageFinding(
        "problem", "The PC/SC service is not installed, so no program can see cards.", _DOCTOR
    ),
    "service_stopped": PageFinding(
        "problem", "The PC/SC service does not run, so no program can see cards.", _DOCTOR
    ),
    "service_dead": PageFinding(
        "problem", "The PC/SC service has broken down, so no program can see cards.", _DOCTOR
    ),
    "service_silent": PageFinding("problem", "The PC/SC service does not answer.", _DOCTOR),
    "service_failing": PageFinding("problem", "The PC/SC service does not do its work.", _DOCTOR),
    "service_refused": PageFinding("problem", "You may not use card readers in this session.", _DOCTOR),
    "reader_undriven": PageFinding(
        "problem",
        "A reader is plugged in that no program sees: its driver is missing.",
        "Have your support install the driver, then plug the reader in again.",
    ),
    "reader_none": PageFinding("note", "There is no card reader.", "Plug one in."),
    "card_driver": PageFinding("ok", "{kind}, used by the driver {driver}.", ""),
    "card_unmapped": PageFinding(
        "problem",
        "Inlay does not know this card.",
        "Have your support add it to the card map; inlay doctor shows the entry.",
    ),
    "card_bare": PageFinding(
        "problem",
        "The card holds no application that Inlay could use.",
        "Ask who supplied it for a card with a PIV application.",
    ),
    "card_module_missing": PageFinding(
        "problem",
        "{kind}: the program of the card's maker is not installed.",
        "Have your support install it; inlay doctor names its file.",
    ),
    "card_unread": PageFinding(
        "problem", "The card can't be read.", "Take it out, see that it is clean, and put it in again."
    ),
    "card_busy": PageFinding(
        "problem",
        "The card does not answer, or another program keeps it for itself.",
        "Close other programs that use cards, or take the card out and put it in again.",
    ),
    "card_last_try": PageFinding(
        "note",
        "The card has one PIN try left.",
        "Type the PIN with care: after one more wrong one it is blocked.",
    ),
    "card_blocked": PageFinding(
        "problem", "The card's PIN is blocked.", "Unblock it on this portal, or ask your support."
    ),
}

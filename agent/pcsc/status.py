"""From status words to named errors: one table (SP 800-73pt2-5, table 2; ISO/IEC 7816-4, section 5.6)."""

from __future__ import annotations

from typing import Final

from agent.pcsc.apdu import Answer, Command
from protocol.errors import InlayError

FAILED: Final = 0x6300
WRONG_LENGTH: Final = 0x6700
NOT_AUTHORISED: Final = 0x6982
BLOCKED: Final = 0x6983
CONDITIONS: Final = 0x6985
WRONG_DATA: Final = 0x6A80
NO_FUNCTION: Final = 0x6A81
NOT_FOUND: Final = 0x6A82
NO_ROOM: Final = 0x6A84
WRONG_PARAMETERS: Final = 0x6A86
NO_REFERENCE: Final = 0x6A88

UNKNOWN: Final = frozenset({0x6D00, 0x6E00, 0x6A81, 0x6881, 0x6882, 0x6884})
"""What cards say of commands that they don't have."""


def require_ok(command: Command, answer: Answer) -> bytes:
    """The answer's data.

    Raises:
        InlayError: ``card_feature_missing``, ``card_full``, ``card_refused``; each names the command.
    """
    if answer.ok:
        return answer.data
    raise refusal(command, answer.status)


def refusal(command: Command, status: int) -> InlayError:
    """The error for a status that isn't 9000 and has no meaning of its own in its command."""
    if status in UNKNOWN:
        return InlayError("card_feature_missing", command=command.name)
    if status == NO_ROOM:
        return InlayError("card_full", command=command.name)
    return InlayError("card_refused", command=command.name, status=f"{status:04X}")


def tries_in(status: int) -> int | None:
    """The tries left that a status tells: 63Cx; 0 for 6983; None when it tells none."""
    if status & 0xFFF0 == 0x63C0:
        return status & 0xF
    return 0 if status == BLOCKED else None

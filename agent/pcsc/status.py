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
WRONG_P1_P2: Final = 0x6B00

PARAMETERS: Final = frozenset({WRONG_PARAMETERS, WRONG_P1_P2})
"""What cards say of an algorithm, a key or a slot in P1 and P2 that they don't know."""
ABSENT: Final = frozenset({WRONG_DATA, NO_FUNCTION, NOT_FOUND, NO_REFERENCE}) | PARAMETERS
"""What cards say of an object that they haven't, or could never have: the standard has 6A82 for both."""
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
    """The tries left that a status tells: 63Cx; 0 for 6983; None when it tells none.

    Older cards say 630x; 6300 alone tells nothing, because others say that of any wrong value.
    """
    if status & 0xFFF0 in (0x63C0, FAILED) and status != FAILED:
        return status & 0xF
    return 0 if status == BLOCKED else None

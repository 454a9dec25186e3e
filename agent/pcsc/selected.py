"""Whether the application that was selected on a card still is: told by what the card answers, never by its brand.

Some readers and cards cut the power when nothing is said for a while, and give it back without PC/SC's
SCARD_W_RESET_CARD: the PIV application is no longer selected then, and nothing that was proved holds. What answers
instead knows none of the commands, or none of the objects. A selected PIV application always tells the state of the PIN
(VERIFY without data, SP 800-73pt2-5, section 3.2.1), which spends no try: so the two are told apart.
"""

from __future__ import annotations

import enum
from typing import Final

from agent.pcsc.apdu import Answer, Command
from agent.pcsc.piv_names import PIN
from agent.pcsc.status import ABSENT, CONDITIONS, FAILED, NOT_FOUND, tries_in

PIN_STATE: Final = Command(0x20, 0x00, PIN, answer=False)
"""VERIFY without data: 9000, 63Cx or 6983 from a PIV application, and never a try."""
SELECT: Final = 0xA4
_GET_DATA: Final = 0xCB
STANDARD: Final = frozenset({0xCB, 0xDB, 0x20, 0x24, 0x2C, 0x87, 0x47})
"""What every PIV card has; the rest is asked for, and its absence is no sign of anything."""
NO_COMMAND: Final = frozenset({0x6D00, 0x6E00})
_NOT_NOW: Final = frozenset({CONDITIONS, NOT_FOUND})
SAID_UNSELECTED: Final = NO_COMMAND | _NOT_NOW
"""What cards say of VERIFY, and of most commands, when no PIV application is selected."""


class Sign(enum.Enum):
    """What an answer says of the application."""

    NOTHING = "nothing"
    LATER = "an answer that both give, and often: asked before anything is concluded from it"
    NOW = "an answer that a selected application hardly gives: asked at once"


class Signs:
    """What the answers since the last SELECT say.

    Attributes:
        doubt: something was answered meanwhile that an application that is gone would have answered, too.
    """

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.doubt = False
        self._known: set[int] = set()

    def heard(self, command: Command, answer: Answer) -> Sign:
        """Take an answer into account."""
        status, instruction = answer.status, command.instruction
        absent = instruction == _GET_DATA and status in ABSENT
        if not absent and status not in SAID_UNSELECTED:
            self._known.add(instruction)
            if tells(answer):
                self.doubt = False  # no application comes back by itself: so it was there all the time
            return Sign.NOTHING
        if absent or instruction not in STANDARD | self._known:
            self.doubt = True
            return Sign.LATER
        return Sign.NOW


def tells(answer: Answer) -> bool:
    """Whether only a selected application answers so."""
    return answer.ok or answer.status == FAILED or tries_in(answer.status) is not None

"""What the person comes for: a new card, or something about the card that is there."""

from __future__ import annotations

from typing import Final, NamedTuple

from agent.handlers.delete_card import WORD
from bench.page import PROCESS
from tests.support.daemon_process import PIN

NEW_PIN: Final = b"864209"


class Errand(NamedTuple):
    """One kind of order.

    Attributes:
        process: the portal's process that orders it.
        answers: what is typed at the terminal, question by question.
        before: the card's PIN before it; None: there is no card yet.
        after: the card's PIN once it is finished; None: there is no card any more.
    """

    process: str
    answers: tuple[tuple[bytes, bytes], ...]
    before: bytes | None
    after: bytes | None

    def pin(self, *, finished: bool) -> bytes | None:
        """The PIN of the card that must be there after the order's end; None: there must be none."""
        return self.after if finished else self.before


CREATE: Final = Errand(PROCESS, ((b"New PIN: ", PIN), (b"The same PIN again: ", PIN)), None, PIN)
BATCH: Final = Errand(
    "TempCardsBoProcIssueMultiple",
    ((b"Encode? Type yes: ", b"yes"), (b"It is the card? Type yes: ", b"yes")),
    None,
    None,
)
"""A card of a batch of temporary cards, which come from their maker; see `tests.faults.batch_kills`."""
ERRANDS: Final = {
    "create": CREATE,
    "change-pin": Errand(
        "VirtualSmartCardProcChangePin",
        (
            (b"PIN of the card (an empty line cancels): ", PIN),
            (b"New PIN: ", NEW_PIN),
            (b"The same PIN again: ", NEW_PIN),
        ),
        PIN,
        NEW_PIN,
    ),
    "renew": Errand(
        "VirtualSmartCardProcRenew", ((b"PIN of the card (an empty line cancels): ", PIN),), PIN, PIN
    ),
    "delete": Errand("VirtualSmartCardProcDelete", ((b"? Type ", WORD.encode()),), PIN, None),
}

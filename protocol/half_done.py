"""What a person is told of an order that ended after its point of no return, in the agent's window and on the page.

What the error table says of its cause is true of a card that is as it was. This one isn't: a fresh order finishes it
(``docs/adr/0018-a-physical-card-can-be-half-done.md``). Where the cause would come back with that order, what the table
advises against it comes first.
"""

from __future__ import annotations

from typing import Final

from protocol.errors import InlayError

CODE: Final = "card_half_done"
"""The cause that is this and nothing else."""
AS_IT_WAS: Final = frozenset({"card_puk_other", "card_puk_blocked", "card_both_blocked", "card_no_reset"})
"""Nothing that is used is changed then, and starting again would cost tries."""
_NOT_OF_IT: Final = (
    "Nothing was changed.",
    "Nothing was left behind.",
    "Nothing was written to this one.",
    "No key was made.",
    "No card was left behind.",
    "What was there before is there again.",
)
"""Sentences of the table that are true of a card that is as it was."""
_SAID_ANYWAY: Final = ("Start again", "Try again")
"""How advice begins that is no more than what is said of every card that is half done."""
_SAID_AT_THE_END: Final = (" and start again from the page.", ", then start again from the page.")
"""How advice ends with the same."""


def next_step(error: InlayError) -> str:
    """What to do now with a card that is half done.

    Args:
        error: by what its order has ended, as the person may know it.
    """
    half_done = InlayError(CODE)
    own = "" if error.code == CODE else error.next_step
    for sentence in _NOT_OF_IT:
        own = own.replace(sentence, "").strip()
    if own.startswith(_SAID_ANYWAY):
        own = ""
    for end in _SAID_AT_THE_END:
        own = own.replace(end, ".")
    return " ".join(part for part in (half_done.happened, own, half_done.next_step) if part)

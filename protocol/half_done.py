"""What a person is told of an order that ended after its point of no return, in the agent's window and on the page.

What the error table says of its cause is true of a card that is as it was. This one isn't: a fresh order finishes it
(``docs/adr/0018-a-physical-card-can-be-half-done.md``).
"""

from __future__ import annotations

from typing import Final

from protocol.errors import InlayError

CODE: Final = "card_half_done"
"""The cause that is this and nothing else."""
AS_IT_WAS: Final = frozenset({"card_puk_other", "card_puk_blocked", "card_both_blocked", "card_no_reset"})
"""Nothing that is used is changed then, and starting again would cost tries."""


def next_step() -> str:
    """What to do now with a card that is half done."""
    half_done = InlayError(CODE)
    return f"{half_done.happened} {half_done.next_step}"

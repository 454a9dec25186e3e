"""The PIN of a token whose reader asks for it, in the middle of an order: said in the window, asked again while wrong.

The reader asks whenever the card wants the PIN: after it was away, and before each use of a key that wants it so. Each
try is one that a person typed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.pcsc.pkcs11 import Token

T = TypeVar("T")

QUESTION: Final = "Type the PIN of the card at the keys of the reader."
_TYPED: Final = "The PIN is right. Leave the card in the reader."
_FEW: Final = {
    "few": "The card says that few tries are left.",
    "last": "This is the last try: one more wrong PIN blocks the card, and only its PUK helps then.",
}


def warning_of(token: Token) -> str | None:
    """What has to be read before a try of the PIN; None while there are plenty, as far as the card tells."""
    return _FEW.get(token.pin)


async def until_typed(
    show: Callable[[str], Awaitable[None]],
    look: Callable[[], Awaitable[Token]],
    work: Callable[[], Awaitable[T]],
) -> T:
    """Do something that has the reader ask, and again when what was typed was wrong.

    Args:
        show: shows in the window what there is to do.
        look: the token as it is now.
        work: what has the reader ask, once.

    Raises:
        InlayError: ``card_pin_blocked``, ``pad_cancelled``; what the work raises else.
    """
    wrong = ""
    while True:
        token = await look()
        if token.pin == "blocked":
            raise InlayError("card_pin_blocked")
        await show(" ".join(text for text in (wrong, warning_of(token), QUESTION) if text))
        try:
            done = await work()
        except InlayError as error:
            if error.code != "pkcs11_pin_wrong":
                raise
            wrong = error.happened
        else:
            await show(_TYPED)
            return done

"""The PIN of a token whose reader asks for it, in the middle of an order: said in the window, asked again while wrong.

The reader asks whenever the card wants the PIN: after it was away, and before each use of a key that wants it so. Each
try is one that a person typed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from agent.tries import NOT_TOLD
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.pcsc.pkcs11_tokens import Token

_QUESTION: Final = "Type the PIN of the card at the keys of the reader."
_TYPED: Final = "The PIN is right. Leave the card in the reader."
_FEW: Final = {
    "few": "The card says that few tries are left.",
    "last": "This is the last try: one more wrong PIN blocks the card, and only its PUK helps then.",
}


def warning_of(token: Token, *, again: bool = False) -> str | None:
    """What has to be read before a try of the PIN; None while there are plenty, as far as the card tells.

    Args:
        token: the token as it is now.
        again: one was spent already.
    """
    return _FEW.get(token.pin, NOT_TOLD if again else None)


def question(token: Token, wrong: str = "") -> str:
    """What is to be done, with what has to be read before."""
    return " ".join(text for text in (wrong, warning_of(token, again=bool(wrong)), _QUESTION) if text)


async def until_typed(
    show: Callable[[str], Awaitable[None]],
    look: Callable[[], Awaitable[Token]],
    verify: Callable[[], Awaitable[None]],
    wrong: str = "",
) -> None:
    """Have the reader ask for the PIN until it is right.

    Args:
        show: shows in the window what there is to do.
        look: the token as it is now.
        verify: has the reader ask, once.
        wrong: what was wrong before.

    Raises:
        InlayError: ``card_pin_blocked``, ``pad_cancelled``; what `verify` raises else.
    """
    while True:
        token = await look()
        if token.pin == "blocked":
            raise InlayError("card_pin_blocked")
        await show(question(token, wrong))
        try:
            await verify()
        except InlayError as error:
            if error.code != "pkcs11_pin_wrong":
                raise
            wrong = error.happened
        else:
            await show(_TYPED)
            return

"""The PIN of a card by the driver *pkcs11* made unusable: wrong ones until the token says that it is locked.

PKCS#11 v3.1, CK_TOKEN_INFO: CKF_USER_PIN_LOCKED. Each wrong PIN is another one, and goes to the very token that is
meant. Doing it again is harmless. The PUK is the security officer's PIN; it stays as it is, for with it locked too
nobody could erase the token any more.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.pcsc.pkcs11 import Driver
    from agent.pcsc.pkcs11_tokens import Token
    from agent.returning_token import ReturningToken

_MOST: Final = 16
"""Wrong PINs that a token is told in one go: more than any token takes that counts them."""
_NEVER_LOCKS: Final = frozenset({"SoftHSM v2"})
"""Models of tokens that count no wrong PINs: they are told none."""
_REFUSED: Final = frozenset({"card_pin_blocked", "pkcs11_pin_wrong"})
_DIGITS: Final = 8


def see_that_it_can_be_blocked(token: Token) -> None:
    """See, before the first wrong PIN, that wrong ones would block a token.

    Raises:
        InlayError: ``pkcs11_never_blocks``, ``pkcs11_block_at_pad``, ``pkcs11_pin_not_set``.
    """
    if token.pin == "blocked":
        return
    if token.model in _NEVER_LOCKS:
        raise InlayError("pkcs11_never_blocks")
    if token.pad:
        raise InlayError("pkcs11_block_at_pad")
    if not token.pin_set:
        raise InlayError("pkcs11_pin_not_set")


async def block(card: ReturningToken, sent: Callable[[], None]) -> None:
    """Tell a token wrong PINs until its PIN is locked; one that is locked is left so.

    Args:
        card: the token.
        sent: told before each of them: from the first one on tries may be spent.

    Raises:
        InlayError: as `see_that_it_can_be_blocked`; ``pkcs11_never_blocks``: it took `_MOST` of them; ``pkcs11_…``.
    """
    told = 0
    guessed = False
    while True:
        token = await card.look()
        see_that_it_can_be_blocked(token)
        if token.pin == "blocked":
            return
        if told == _MOST:
            raise InlayError("pkcs11_never_blocks")
        told += 1
        if await card.run(_wrong_pin(token, sent)) and not guessed:
            guessed, told = True, 0  # right by chance, so the count begins anew


def _wrong_pin(token: Token, sent: Callable[[], None]) -> Callable[[Driver], Awaitable[bool]]:
    """Tells a token one PIN: 8 digits, or as near to that as it takes; whether it was right, by chance."""
    shortest, longest = token.pin_length
    length = max(shortest, min(_DIGITS, longest) if longest else _DIGITS)
    pin = bytearray(f"{secrets.randbelow(10**length):0{length}}".encode())

    async def tell(driver: Driver) -> bool:
        sent()
        try:
            await driver.verify(pin)
        except InlayError as error:
            if error.code not in _REFUSED:
                raise
            return False
        await driver.log_out()
        return True

    return tell

"""The PIN of a card by the driver *pkcs11*, typed and right, before an order uses its keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Literal

from agent.handlers.order_steps import ask
from agent.ports import KnownSecret, WindowFailed
from agent.token_pad import question, warning_of
from agent.token_presence import UNKNOWN
from agent.tries import NOT_TOLD
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.order_ports import OrderContext
    from agent.pcsc.pkcs11_tokens import Token
    from agent.returning_token import ReturningToken

LONGEST: Final = 64
"""Bytes that a field takes where a module names no sensible end."""
_TORN: Final = "The card went away while its PIN was checked: a try may have been spent."
_FEW_PUK: Final = {
    "few": "The card says that few tries of the PUK are left.",
    "last": "This is the last try: one more wrong PUK blocks the card, and nothing helps then but a new card.",
}


def known_pin(token: Token) -> KnownSecret:
    """The field for the PIN that a card has now."""
    shortest, longest = token.pin_length
    return KnownSecret("PIN of the card", max(1, shortest), min(max(longest, 1), LONGEST))


def known_puk(token: Token) -> KnownSecret:
    """The field for the PUK that a card has: its security officer's PIN, for which modules name no other length."""
    return dataclasses.replace(known_pin(token), caption="PUK (unblocking code)")


def puk_warning(token: Token) -> str:
    """What has to be read before a try of the PUK: nothing brings a blocked one back."""
    return _FEW_PUK.get(token.puk, NOT_TOLD)


def see_that_pin_can_be_tried(token: Token) -> None:
    """See that there is a PIN, and a try of it.

    Raises:
        InlayError: ``pkcs11_pin_not_set``, ``card_pin_blocked``.
    """
    if not token.pin_set:
        raise InlayError("pkcs11_pin_not_set")
    if token.pin == "blocked":
        raise InlayError("card_pin_blocked")


def see_that_puk_can_be_tried(token: Token) -> None:
    """See that there is a PUK, and a try of it.

    Raises:
        InlayError: ``pkcs11_not_initialised``, ``card_puk_blocked``.
    """
    if not token.initialised:
        raise InlayError("pkcs11_not_initialised")
    if token.puk == "blocked":
        raise InlayError("card_puk_blocked")


async def right_token_pin(
    context: OrderContext,
    card: ReturningToken,
    typed: Callable[[], Awaitable[None]],
    where: Literal["window", "pad", "auto"] = "window",
) -> bytearray:
    """Have the card's PIN typed until it is right; the card is logged in with it, and the caller wipes it.

    Args:
        context: the order, in whose window it is asked for.
        card: the card; waited for where it isn't there.
        typed: shows that something is done, once the person has typed.
        where: where it is typed. At the reader where the card has a protected authentication path, with ``auto``, and
            with ``window`` too where it has one: such a card takes no PIN from elsewhere.

    Returns:
        The PIN; nothing where it is typed at the reader.

    Raises:
        InlayError: ``card_pin_blocked``, ``pkcs11_pin_not_set``, ``pad_missing``, ``user_cancelled`` …
    """
    wrong = ""
    while True:
        token = await context.guard(card.look())
        see_that_pin_can_be_tried(token)
        if where == "pad" and not token.pad:
            raise InlayError("pad_missing")
        try:
            if token.pad:
                await _at_pad(context, card, token, wrong)
                return bytearray()
            return await _in_window(context, card, token, typed, wrong)
        except InlayError as error:
            if error.code == "pkcs11_pin_wrong":
                wrong = error.happened
            elif error.code in UNKNOWN:
                wrong = _TORN
            else:
                raise


async def _at_pad(context: OrderContext, card: ReturningToken, token: Token, wrong: str) -> None:
    await context.window.show_progress("pin", question(token, wrong), 1, 2)
    await context.guard(card.verify(None))


async def _in_window(
    context: OrderContext,
    card: ReturningToken,
    token: Token,
    typed: Callable[[], Awaitable[None]],
    wrong: str,
) -> bytearray:
    warning = " ".join(part for part in (wrong, warning_of(token, again=bool(wrong))) if part) or None
    prompt = dataclasses.replace(
        context.prompt, known=known_pin(token), warning=warning, confirm_label="Go on", pin_policy=None
    )
    answer = await ask(context, prompt)
    try:
        if answer.known is None:
            raise WindowFailed(None)
        await typed()
        pin = bytearray(answer.known)
        try:
            await card.verify(pin)
        except BaseException:
            pin[:] = bytes(len(pin))
            raise
        return pin
    finally:
        answer.wipe()

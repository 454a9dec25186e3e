"""A token's PIN changed, or unblocked by its PUK, at the keys of its reader (CKF_PROTECTED_AUTHENTICATION_PATH).

The module has the reader ask. As in ``pin_at_pad`` nobody here can stop the one command that counts. Not every module
that shows the flag can do it: OpenSC's (0.23) refuses to have a PIV card's PIN changed so, as one of a wrong length,
before it asks for anything. That is why ``auto`` goes to the window then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.handlers.pin_at_pad import IN_VAIN, REFUSED, fits_a_pad, nothing
from agent.handlers.token_pin_entry import (
    puk_warning,
    see_that_pin_can_be_tried,
    see_that_puk_can_be_tried,
)
from agent.token_pad import warning_of
from agent.token_presence import UNKNOWN
from agent.unbroken import to_its_end
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.order_ports import OrderContext
    from agent.pcsc.pkcs11_tokens import Token
    from agent.returning_token import ReturningToken
    from protocol.messages import ChangePin, UnblockPin

_WRONG: Final = frozenset({"pkcs11_pin_wrong", "pkcs11_puk_wrong"})
_AS_IT_WAS: Final = _WRONG | {
    "card_pin_form",
    "card_pin_blocked",
    "card_puk_blocked",
    "card_feature_missing",
    "pad_cancelled",
}
"""After these the token has the PIN that it had (PKCS#11 v3.1, section 5: a call that fails has done nothing)."""
_CANT_ASK: Final = frozenset({"pad_rules", "card_pin_form", "card_feature_missing"})
"""After these the window asks, where the order lets it."""
_TORN: Final = "The card went away in the middle, so it isn't known whether it has the new PIN. Set it again."


class TokenPinAtPad:
    """One order's new PIN, typed at the reader."""

    def __init__(
        self, context: OrderContext, card: ReturningToken, ordered: ChangePin | UnblockPin, step: str
    ) -> None:
        """Prepare.

        Args:
            context: the order.
            card: its card, whose reader asks.
            ordered: what is to be done.
            step: what the command is called in the journal.
        """
        self._context, self._card, self._ordered, self._step = context, card, ordered, step
        self._unblocks = hasattr(ordered, "puk")

    async def sets_it(self) -> bool:
        """Have it set as often as the person types; False: this reader can't ask, and the window may.

        Raises:
            InlayError: ``pad_missing``, ``pad_rules``, ``pad_refused``, ``pad_cancelled``; ``card_pin_blocked``,
                ``card_puk_blocked``; ``card_pin_unknown``: the card went while a change was typed.
        """
        strict = self._ordered.where == "pad"
        if not strict and not (self._ordered.where == "auto" and fits_a_pad(self._ordered)):
            return False
        try:
            await self._until_it_is_set(strict=strict)
        except InlayError as error:
            if strict or error.code not in _CANT_ASK | {"pad_missing"}:
                raise
            return False
        return True

    async def _until_it_is_set(self, *, strict: bool) -> None:
        before, in_vain = "", 0
        while True:
            await self._ask(before)
            setting = self._card.unblock_at_pad() if self._unblocks else self._card.change_pin(None, None)
            try:
                await to_its_end(self._context.record(self._step, setting))
            except InlayError as error:
                if error.code in _AS_IT_WAS:
                    await self._context.record(REFUSED, nothing())
                in_vain = 0 if error.code in _WRONG else in_vain + 1
                if error.code in _CANT_ASK and not strict:
                    raise
                if in_vain == IN_VAIN:
                    raise _given_up(error) from None
                before = self._before_next(error)
            else:
                return

    def _before_next(self, error: InlayError) -> str:
        """What is said before the reader asks again.

        Raises:
            InlayError: it doesn't.
        """
        if error.code in UNKNOWN and self._unblocks:
            return _TORN  # who has the PUK may set a PIN as often as they like
        if error.code not in _WRONG | {"card_pin_form"}:
            raise _given_up(error)
        return error.happened if error.code in _WRONG else f"{error.happened} {error.why}"

    async def _ask(self, before: str) -> None:
        """Say what is typed now; what the token tells of its tries stands before it."""
        token = await self._usable()
        few = puk_warning(token) if self._unblocks else warning_of(token, again=bool(before))
        known = "the PUK" if self._unblocks else "the old PIN"
        question = (
            f"Type {known}, then the new PIN twice, at the keys of the reader. "
            f"The new PIN has at least {token.pin_length[0]} digits. To stop, press Cancel at the reader."
        )
        text = " ".join(part for part in (before, few, question) if part)
        await self._context.window.show_progress("pin", text, 2, 4, can_cancel=False)

    async def _usable(self) -> Token:
        """The token, of which there is a try, and whose keys take no PIN that is weaker than the order wants it.

        Nobody else sees what is typed. A longer one than the rules allow is as good, and the card takes it.

        Raises:
            InlayError: ``pad_missing``, ``pad_rules``; ``card_pin_blocked``, ``card_puk_blocked`` …
        """
        token, policy = await self._context.guard(self._card.look()), self._ordered.pin_policy
        if not token.pad:
            raise InlayError("pad_missing")
        if self._unblocks:
            see_that_puk_can_be_tried(token)
        else:
            see_that_pin_can_be_tried(token)
        if token.pin_length[0] < policy.min_length:
            raise InlayError("pad_rules", shortest=token.pin_length[0])
        return token


def _given_up(error: InlayError) -> InlayError:
    """What ends the order, by its right name.

    After a command without an answer nobody knows which PIN the token has. Of a PIN that isn't what the card takes,
    again and again, the module may have asked nobody.
    """
    if error.code in UNKNOWN:
        return InlayError("card_pin_unknown")
    return InlayError("pad_refused") if error.code == "card_pin_form" else error

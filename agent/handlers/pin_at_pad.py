"""A card's PIN changed, or unblocked by a PUK, at the keys of its reader (PC/SC part 10): nobody else ever has either.

The reader sends the one command that counts, so nobody here can stop it: it is ended at the reader, or by the reader,
which waits 30 s for a key. The window can't be closed meanwhile, for the PIN might be changed behind its back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from agent.handlers.physical_card_pin import CANT_ASK
from agent.pcsc import piv_pad, piv_pin
from agent.pcsc.piv_names import PIN, PUK
from agent.pin_rules import PIV_PIN_BYTES, PIV_PIN_MINIMUM
from agent.tries import Tries
from agent.unbroken import to_its_end
from protocol.errors import InlayError
from protocol.words import Presence

if TYPE_CHECKING:
    from agent.order_ports import OrderContext
    from agent.pcsc.connection import CardConnection
    from agent.returning_card import ReturningCard
    from protocol.messages import ChangePin, PinPolicy, UnblockPin

Where = Literal["window", "pad", "auto"]
REFUSED: Final = "pin refused"
"""Journalled once it is known that the card has the PIN that it had."""
_ASKED_AGAIN: Final = frozenset(
    {"card_pin_wrong", "card_puk_wrong", "pad_timeout", "pad_length", "pad_not_repeated"}
)
_WRONG: Final = frozenset({"card_pin_wrong", "card_puk_wrong"})
IN_VAIN: Final = 4
"""So often in a row a reader asks for nothing until it is given up."""
_NEVER_CAME: Final = (
    "The card went away in the middle. Its PIN is still blocked. A try of its PUK may have been spent."
)


def see_that_it_can_be_typed(ordered: ChangePin | UnblockPin) -> None:
    """See that an order which wants the PIN typed at the reader, and nowhere else, can be carried out at all.

    Raises:
        InlayError: ``encoding_unsupported``: of a virtual card; with a PUK that the portal has, for nobody could type
            it; with rules that a pad can't hold to.
    """
    if ordered.where == "pad" and not fits_a_pad(ordered):
        raise InlayError("encoding_unsupported", what=f"the PIN entry {_kind(ordered)} pad")


def fits_a_pad(ordered: ChangePin | UnblockPin) -> bool:
    """Whether what is ordered can be typed at a reader: digits alone, of lengths that hold for every value typed."""
    escrowed = getattr(ordered, "puk", None) == "escrow"
    if ordered.driver == "virtual" or escrowed or not _digits_do(ordered.pin_policy):
        return False
    if ordered.driver == "pkcs11":
        return True  # how long its PINs are is the token's to say, see ``token_pin_at_pad``
    shortest, longest = _lengths(ordered.pin_policy)
    # a PUK has eight digits, and a pad takes one range of lengths for everything that is typed
    return shortest <= longest and (_kind(ordered) == "change" or longest == PIV_PIN_BYTES)


def _digits_do(policy: PinPolicy) -> bool:
    """Whether a PIN of digits alone can keep these rules."""
    classes = (policy.upper, policy.lower, policy.special)
    return policy.digits is not Presence.DISALLOWED and Presence.REQUIRED not in classes


class PinAtPad:
    """One order's new PIN, typed at the reader."""

    def __init__(
        self, context: OrderContext, card: ReturningCard, ordered: ChangePin | UnblockPin, step: str
    ) -> None:
        """Prepare.

        Args:
            context: the order.
            card: its card.
            ordered: what is to be done.
            step: what the command is called in the journal.
        """
        self._context, self._card, self._ordered, self._step = context, card, ordered, step
        self._reference = PIN if _kind(ordered) == "change" else PUK
        self._left = Tries("PIN" if self._reference == PIN else "PUK")

    async def sets_it(self) -> bool:
        """Have it set as often as the person types; False: this reader can't ask, and the window may.

        Raises:
            InlayError: ``pad_…``; ``card_pin_blocked``, ``card_puk_blocked``; ``card_pin_unknown``: the card went
                while it was typed, and may have taken the new PIN.
        """
        where = self._ordered.where
        if where == "window" or not fits_a_pad(self._ordered):
            return False
        try:
            await self._until_it_is_set()
        except InlayError as error:
            if where == "pad" or error.code not in CANT_ASK:
                raise
            return False
        return True

    async def _until_it_is_set(self) -> None:
        before, in_vain = "", 0
        while True:
            await self._ask(before)
            try:
                await to_its_end(self._context.record(self._step, self._card.once(self._set)))
            except InlayError as error:
                if not _is_the_cards(error):
                    await self._see_that_it_is_blocked()
                    before = _NEVER_CAME
                    self._left.unsure()
                elif error.code in _WRONG:
                    before = error.happened
                    self._left.refused(error)
                else:
                    before = f"{error.happened} {error.why}"
                await self._context.record(REFUSED, nothing())
                in_vain = 0 if error.code in _WRONG else in_vain + 1
                if (_is_the_cards(error) and error.code not in _ASKED_AGAIN) or in_vain == IN_VAIN:
                    raise
            else:
                return

    async def _ask(self, before: str) -> None:
        """Say what is typed now; the tries that are left stand before it."""
        context = self._context
        if not await context.guard(self._card.run(_can_change)):
            raise InlayError("pad_missing")
        tries = await context.guard(self._card.run(piv_pin.tries_left, self._reference))
        by_pin = self._reference == PIN
        if tries == 0:
            raise InlayError("card_pin_blocked" if by_pin else "card_puk_blocked")
        shortest, longest = _lengths(self._ordered.pin_policy)
        known = "the old PIN" if by_pin else "the PUK"
        question = (
            f"Type {known}, then the new PIN twice, at the keys of the reader. "
            f"The new PIN has {shortest} to {longest} digits. To stop, press Cancel at the reader."
        )
        text = " ".join(part for part in (self._left.warning(tries, before), question) if part)
        await context.window.show_progress("pin", text, 2, 4, can_cancel=False)

    def _set(self, card: CardConnection) -> None:
        pad = piv_pad.pad_in(card)
        if pad is None:
            raise InlayError("pad_missing")
        shortest, longest = _lengths(self._ordered.pin_policy)
        if self._reference == PIN:
            piv_pad.change(card, pad, PIN, shortest, longest)
        else:
            piv_pad.unblock(card, pad, shortest, longest)

    async def _see_that_it_is_blocked(self) -> None:
        """After a command without an answer: a PIN that is still blocked wasn't set.

        What was typed is known to nobody here, so nothing else tells the new PIN from the old one.

        Raises:
            InlayError: ``card_pin_unknown``.
        """
        try:
            tries = None
            if self._reference == PUK:
                tries = await self._context.guard(self._card.run(piv_pin.tries_left, PIN))
        except InlayError:
            raise InlayError("card_pin_unknown") from None
        if tries != 0:
            raise InlayError("card_pin_unknown")


def _is_the_cards(error: InlayError) -> bool:
    """Whether card or pad have said so; else it isn't known what became of the command."""
    return not error.code.startswith("pcsc_") and error.code != "card_answer_malformed"


def _can_change(card: CardConnection) -> bool:
    pad = piv_pad.pad_in(card)
    return pad is not None and pad.modify is not None


def _kind(ordered: ChangePin | UnblockPin) -> str:
    return "unblock" if hasattr(ordered, "puk") else "change"


def _lengths(policy: PinPolicy) -> tuple[int, int]:
    return max(policy.min_length, PIV_PIN_MINIMUM), min(policy.max_length, PIV_PIN_BYTES)


async def nothing() -> None:
    """For a step of the journal that only says that something is known now."""
    return

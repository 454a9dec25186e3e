"""*Change PIN* and *unblock PIN* of a card by the driver *pkcs11*: what ``physical_pin`` is for PIV cards.

C_SetPIN is sent once; where its answer never came, only the person may spend a try to find out which PIN the card has.
To unblock, the PUK is proved by itself, once; that it is right, C_InitPIN may be said again without costing a try.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Final

from agent.handlers.order_steps import agree, ask, to_its_end
from agent.handlers.physical_pin import STEPS, step_name
from agent.handlers.pin_at_pad import REFUSED
from agent.handlers.token_pin_entry import known_pin, known_puk, see_that_pin_can_be_tried, warning_of
from agent.pin_rules import keeps_rules
from agent.ports import InteractionError, WindowFailed
from agent.returning_card import PhysicalCard
from agent.returning_token import UNKNOWN, ReturningToken
from protocol.errors import DecodeError, InlayError
from protocol.messages import Receipt, Step

if TYPE_CHECKING:
    from agent.handlers.physical_pin import By
    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from agent.pcsc.pkcs11 import Token
    from agent.pin_rules import PinRules
    from agent.ports import Consented, OrderPrompt
    from protocol.messages import ChangePin, Proceed, UnblockPin

_WRONG: Final = frozenset({"pkcs11_pin_wrong", "pkcs11_puk_wrong"})
_LAST_PUK: Final = (
    "This is the last try: one more wrong PUK blocks the card, and nothing helps then but a new card."
)
_TORN: Final = (
    "The card went away in the middle, so it isn't known whether its PIN is the old one or the new one. "
    "Type the new PIN to find out. If it is wrong, that costs a try."
)


class TokenPinWork:
    """One order's work on the PIN of a token; see ``agent.handlers.physical_pin.PinWork``."""

    def __init__(
        self,
        context: OrderContext,
        readers: CardReaders,
        ordered: ChangePin | UnblockPin,
        rules: PinRules,
        by: By,
    ) -> None:
        which = PhysicalCard(ordered.driver, ordered.guid, ordered.label)
        self._context, self._ordered, self._rules, self._by = context, ordered, rules, by
        self._card = ReturningToken(context, readers, which, (1, STEPS))
        self._typed = True

    async def carry_out(self, *, typed: bool = True) -> None:
        """From consent to the receipt.

        Args:
            typed: the person has what the card wants to be told; else ``proceed`` brings the PUK.

        Raises:
            InlayError: ``card_pin_blocked``, ``card_puk_blocked``, ``pkcs11_puk_wrong``, ``card_pin_unknown`` …
        """
        self._typed = typed
        context = self._context
        await context.progress(Step.CONSENT)
        (await ask(context, context.prompt)).wipe()
        agreed = await agree(context, total=STEPS)
        await context.progress(Step.CARD)
        try:
            await self._until_it_is_set(agreed)
        finally:
            await self._card.close()
        with contextlib.suppress(InteractionError):
            await context.window.show_progress(
                Step.FINISHED, "Waiting for the portal to confirm", STEPS - 1, STEPS, can_cancel=False
            )
        await context.send(Receipt(guid=self._ordered.guid))

    async def _until_it_is_set(self, agreed: Proceed) -> None:
        wrong = ""
        while True:
            token = await self._context.guard(self._card.look())
            self._see_that_it_can_be_tried(token)
            answer = await ask(self._context, self._question(token, wrong))
            known: bytearray | None = None
            try:
                known, new = self._told(token, answer, agreed)
                await to_its_end(self._set(known, new))
            except InlayError as error:
                if error.code in _WRONG and self._typed:
                    wrong = f"{error.happened} {error.why}"
                elif error.code not in UNKNOWN:
                    raise
                elif await self._is_set_after_all(answer):
                    await self._context.record(step_name(self._by), _nothing())
                    return
                else:
                    wrong = "The card has the PIN that it had."
                await self._context.record(REFUSED, _nothing())
            else:
                return
            finally:
                answer.wipe()
                if known is not None:
                    known[:] = bytes(len(known))

    def _see_that_it_can_be_tried(self, token: Token) -> None:
        if self._by == "PIN":
            see_that_pin_can_be_tried(token)
        elif not token.initialised:
            raise InlayError("pkcs11_not_initialised")
        elif token.puk == "blocked":
            raise InlayError("card_puk_blocked")

    def _question(self, token: Token, wrong: str) -> OrderPrompt:
        few: str | None = None
        if self._by == "PIN":
            few = warning_of(token)
        elif token.puk == "last":
            few = _LAST_PUK
        known = None if not self._typed else known_pin(token) if self._by == "PIN" else known_puk(token)
        return dataclasses.replace(
            self._context.prompt,
            known=known,
            pin_policy=self._rules,
            warning=" ".join(text for text in (wrong, few) if text) or None,
        )

    def _told(self, token: Token, answer: Consented, agreed: Proceed) -> tuple[bytearray, bytearray]:
        """What the card is told: what it wants to know, and the new PIN."""
        if answer.pin is None or not keeps_rules(self._rules, answer.pin):
            raise WindowFailed(None)
        shortest, longest = token.pin_length
        if len(answer.pin) < shortest or 0 < longest < len(answer.pin):
            raise InlayError("card_pin_form")
        if self._typed:
            if answer.known is None:
                raise WindowFailed(None)
            return bytearray(answer.known), answer.pin
        if agreed.puk is None:
            raise DecodeError("params_invalid", "$.puk")
        return self._context.decrypt(agreed.puk), answer.pin

    async def _set(self, known: bytearray, new: bytearray) -> None:
        context, card = self._context, self._card
        await context.window.show_progress("pin", "Setting the PIN", 2, STEPS, can_cancel=False)
        if self._by == "PIN":
            await context.record(step_name(self._by), card.change_pin(known, new))
        else:
            await card.prove_puk(known)
            await context.record(step_name(self._by), card.set_pin(known, new))

    async def _is_set_after_all(self, answer: Consented) -> bool:
        """After a command without an answer: the person types the PIN that they think the card has.

        Raises:
            InlayError: ``card_pin_unknown``: a wrong one was tried already, or the person doesn't want to, or the card
                doesn't come back.
        """
        context = self._context
        while True:
            try:
                token = await context.guard(self._card.look())
                if token.pin != "enough" or not token.pin_set:
                    raise InlayError("card_pin_unknown")  # noqa: TRY301 - as what `look` raises
                asked = dataclasses.replace(
                    context.prompt,
                    known=known_pin(token),
                    pin_policy=None,
                    warning=_TORN,
                    confirm_label="Try",
                )
                told = await ask(context, asked)
            except InlayError:  # given up, undone, or waited for in vain: nobody found out
                raise InlayError("card_pin_unknown") from None
            try:
                if told.known is None:
                    raise WindowFailed(None)
                await self._card.verify(told.known)
                return bytes(told.known) == bytes(answer.pin or b"")
            except InlayError as error:
                if error.code == "pkcs11_pin_wrong" and told.known == answer.pin:
                    return False  # it isn't the new one
                if error.code != "pkcs11_pin_wrong" and error.code not in UNKNOWN:
                    raise
            finally:
                await self._card.close()  # logged out, before what was typed is wiped
                told.wipe()


async def _nothing() -> None:
    return

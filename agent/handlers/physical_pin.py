"""What *change PIN* and *unblock PIN* of a physical card have in common: one command that is never sent twice unasked.

The point of no return is that one command. Its answer may never come: the card is pulled out, the service dies. Then
nobody knows whether the PIN is the old one or the new one, and only a person may spend a try to find out.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Final, Literal

from agent.handlers.order_steps import agree, ask, to_its_end
from agent.handlers.physical_card_pin import portals_puk
from agent.handlers.pin_at_pad import REFUSED, PinAtPad
from agent.handlers.pin_questions import known_puk, tries_warning
from agent.pcsc import piv_pin
from agent.pcsc.piv_names import PIN, PUK
from agent.pin_rules import PIV_PIN_BYTES, PIV_PIN_MINIMUM, keeps_rules
from agent.ports import InteractionError, KnownSecret, WindowFailed
from agent.returning_card import GONE, PhysicalCard, ReturningCard
from protocol.errors import DecodeError, InlayError
from protocol.messages import Receipt, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from agent.pin_rules import PinRules
    from agent.ports import Consented, OrderPrompt
    from protocol.messages import ChangePin, Message, Proceed, UnblockPin

By = Literal["PIN", "PUK"]
STEPS: Final = 4
_AT_CARD: Final = (1, STEPS)
_KNOWN_PIN: Final = KnownSecret("PIN of the card", PIV_PIN_MINIMUM, PIV_PIN_BYTES)
_ASKED_AGAIN: Final = frozenset({"card_pin_wrong", "card_puk_wrong"})
_TORN: Final = (
    "The card went away in the middle, so it isn't known whether its PIN is the old one or the new one."
)
_FEW: Final = 2
"""With so few tries left, or fewer, nobody is asked to spend one only to find out."""


def step_name(by: By) -> str:
    """What the command is called in the journal."""
    return f"set pin by {by}"


class PinWork:
    """One order's work on the PIN of a card in a reader."""

    def __init__(
        self,
        context: OrderContext,
        readers: CardReaders,
        ordered: ChangePin | UnblockPin,
        rules: PinRules,
        by: By,
    ) -> None:
        """Prepare.

        Args:
            context: the order.
            readers: where the card is.
            ordered: which card.
            rules: the new PIN's.
            by: what the card wants to be told for it: the PIN that it has, or its PUK.
        """
        which = PhysicalCard(ordered.driver, ordered.guid, ordered.label)
        self._context, self._ordered, self._rules, self._by = context, ordered, rules, by
        self._card = ReturningCard(context, readers, which, _AT_CARD)
        self._typed_puk = True
        self._step = step_name(by)

    async def carry_out(self, *, typed: bool = True) -> None:
        """From consent to the receipt.

        Args:
            typed: the person has what the card wants to be told; else ``proceed`` brings the PUK.

        Raises:
            InlayError: ``card_pin_blocked``, ``card_puk_blocked``, ``card_puk_other``, ``card_pin_unknown`` …
        """
        self._typed_puk = typed
        await self._context.progress(Step.CONSENT)
        (await ask(self._context, self._context.prompt)).wipe()
        agreed = await agree(self._context, total=STEPS)
        await self._context.progress(Step.CARD)
        try:
            if not await PinAtPad(self._context, self._card, self._ordered, self._step).sets_it():
                await self._until_it_is_set(agreed)
        finally:
            await self._card.close()
        with contextlib.suppress(InteractionError):
            await self._context.window.show_progress(
                Step.FINISHED, "Waiting for the portal to confirm", STEPS - 1, STEPS, can_cancel=False
            )
        await self._context.send(Receipt(guid=self._ordered.guid))

    async def _until_it_is_set(self, agreed: Proceed) -> None:
        wrong = ""
        while True:
            answer = await ask(self._context, await self._question(wrong))
            known: bytearray | None = None
            try:
                known, new = self._told(answer, agreed)
                await to_its_end(self._set(known, new))
            except InlayError as error:
                if error.code in _ASKED_AGAIN and self._typed_puk:
                    wrong = error.happened
                elif error.code not in GONE:
                    raise portals_puk(error) from None
                elif await self._is_set_after_all(answer):
                    await self._context.record(self._step, _nothing())
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

    async def _question(self, wrong: str) -> OrderPrompt:
        """What is asked for now: the tries that are left stand above it."""
        reference = PIN if self._by == "PIN" else PUK
        tries = await self._context.guard(self._card.run(piv_pin.tries_left, reference))
        if tries == 0:
            raise InlayError("card_pin_blocked" if self._by == "PIN" else "card_puk_blocked")
        few = tries_warning(self._by, tries) if tries is not None and self._typed_puk else None
        known = None if not self._typed_puk else _KNOWN_PIN if self._by == "PIN" else known_puk()
        return dataclasses.replace(
            self._context.prompt,
            known=known,
            pin_policy=self._rules,
            warning=" ".join(text for text in (wrong, few) if text) or None,
        )

    def _told(self, answer: Consented, agreed: Proceed) -> tuple[bytearray, bytearray]:
        """What the card is told: what it wants to know, and the new PIN."""
        if answer.pin is None or not keeps_rules(self._rules, answer.pin):
            raise WindowFailed(None)
        if self._typed_puk:
            if answer.known is None:
                raise WindowFailed(None)
            return bytearray(answer.known), answer.pin
        if agreed.puk is None:
            raise DecodeError("params_invalid", "$.puk")
        return self._context.decrypt(agreed.puk), answer.pin

    async def _set(self, known: bytearray, new: bytearray) -> None:
        context = self._context
        await context.window.show_progress("pin", "Setting the PIN", 2, STEPS, can_cancel=False)
        if self._by == "PIN":
            setting = self._card.once(piv_pin.change, PIN, known, new)
        else:
            setting = self._card.once(piv_pin.unblock, known, new)
        await context.record(self._step, setting)

    async def _is_set_after_all(self, answer: Consented) -> bool:
        """After a command without an answer: the person types the PIN that they think the card has.

        Raises:
            InlayError: ``card_pin_unknown``: too few tries are left to find out, or the person doesn't, or the card
                doesn't come back.
        """
        context = self._context
        while True:
            try:
                tries = await context.guard(self._card.run(piv_pin.tries_left, PIN))
            except InlayError:  # given up, undone, or waited for in vain: nobody found out
                raise InlayError("card_pin_unknown") from None
            if tries == 0 and self._by == "PUK":
                return False  # it was blocked before, and still is: the card never got the command
            if tries is None or tries <= _FEW:
                raise InlayError("card_pin_unknown")
            warning = (
                f"{_TORN} Type the new PIN to find out. If it is wrong, that costs one of {tries} tries."
            )
            asked = dataclasses.replace(
                context.prompt, known=_KNOWN_PIN, pin_policy=None, warning=warning, confirm_label="Try"
            )
            try:
                told = await ask(context, asked)
            except InlayError:
                raise InlayError("card_pin_unknown") from None
            try:
                if told.known is None:
                    raise WindowFailed(None)
                await self._card.once(piv_pin.verify, told.known)
                return bytes(told.known) == bytes(answer.pin or b"")
            except InlayError as error:
                if error.code == "card_pin_wrong" and told.known == answer.pin:
                    return False  # it isn't the new one
                if error.code != "card_pin_wrong" and error.code not in GONE:
                    raise
            finally:
                told.wipe()


async def receipt_after(guid: str, steps: Sequence[tuple[str, str]]) -> Message | None:
    """After a restart: the receipt when the card had answered, None when it was never told.

    Raises:
        InlayError: ``card_pin_unknown``: it was told, and its answer isn't known.
    """
    told = [(step, moment) for step, moment in steps if step.startswith(("set pin by ", REFUSED))]
    if not told or told[-1][0] == REFUSED:
        return None
    if told[-1][1] == "after":
        return Receipt(guid=guid)
    raise InlayError("card_pin_unknown")


async def _nothing() -> None:
    return

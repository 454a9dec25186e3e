"""What *change PIN* and *unblock PIN* of cards in readers have in common: one command that is never sent twice unasked.

The point of no return is that one command. Its answer may never come: the card is pulled out, the service or the module
dies. Then nobody knows whether the PIN is the old one or the new one, and only a person may spend a try to find out.
``physical_pin`` does it for PIV cards, ``token_pin`` for those by the driver *pkcs11*.
"""

from __future__ import annotations

import contextlib
import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Literal

from agent.handlers.order_steps import agree, ask
from agent.handlers.pin_at_pad import REFUSED, nothing
from agent.pin_rules import keeps_rules
from agent.ports import InteractionError, WindowFailed
from agent.unbroken import to_its_end
from protocol.errors import DecodeError, InlayError
from protocol.messages import Receipt, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.order_ports import OrderContext
    from agent.pin_rules import PinRules
    from agent.ports import Consented, KnownSecret, OrderPrompt
    from protocol.messages import ChangePin, Message, Proceed, UnblockPin

By = Literal["PIN", "PUK"]
STEPS: Final = 4
AT_CARD: Final = (1, STEPS)
TORN: Final = (
    "The card went away in the middle, or its answer can't be read, so it isn't known whether its PIN is the old one "
    "or the new one. "
    "Type the new PIN to find out. If it is wrong, that costs "
)
_AS_IT_WAS: Final = "The card has the PIN that it had."


def step_name(by: By) -> str:
    """What the command is called in the journal."""
    return f"set pin by {by}"


class PinSetting(ABC):
    """One order's work on the PIN of a card that is there.

    Attributes:
        wrong: codes after which what was typed is asked for again.
        wrong_pin: the one of a wrong PIN.
        unknown: codes after which nobody knows whether the card has done what it was told.
    """

    wrong: frozenset[str]
    wrong_pin: str
    unknown: frozenset[str]

    def __init__(
        self, context: OrderContext, ordered: ChangePin | UnblockPin, rules: PinRules, by: By
    ) -> None:
        """Prepare.

        Args:
            context: the order.
            ordered: which card.
            rules: the new PIN's.
            by: what the card wants to be told for it: the PIN that it has, or its PUK.
        """
        self._context, self._ordered, self._rules, self._by = context, ordered, rules, by
        self._typed = True
        """the person types what the card wants to be told"""
        self._lengths = (0, 0)
        """shortest and longest PIN that the card takes; 0: the rules alone say"""
        self._step = step_name(by)

    async def carry_out(self, *, typed: bool = True) -> None:
        """From consent to the receipt.

        Args:
            typed: the person has what the card wants to be told; else ``proceed`` brings the PUK.

        Raises:
            InlayError: ``card_pin_blocked``, ``card_puk_blocked``, ``card_pin_unknown``; that the portal's PUK is
                another than the card's …
        """
        self._typed = typed
        context = self._context
        await context.progress(Step.CONSENT)
        (await ask(context, context.prompt)).wipe()
        agreed = await agree(context, total=STEPS)
        await context.progress(Step.CARD)
        try:
            agreed = await self._prepared(agreed)
            if not await self._at_reader():
                await self._until_it_is_set(agreed)
        finally:
            await self._close()
        with contextlib.suppress(InteractionError):
            await context.window.show_progress(
                Step.FINISHED, "Waiting for the portal to confirm", STEPS - 1, STEPS, can_cancel=False
            )
        await context.send(Receipt(guid=self._ordered.guid))

    # --- what differs from driver to driver

    async def _prepared(self, agreed: Proceed) -> Proceed:
        """See that the card may be told what the portal gives; what it has given."""
        return agreed

    @abstractmethod
    async def _at_reader(self) -> bool:
        """Have everything typed at the keys of the reader; False: the window asks."""

    @abstractmethod
    async def _fields(self) -> tuple[KnownSecret | None, str | None]:
        """The field for what is known, where it is typed, and what is said of the tries that are left.

        Raises:
            InlayError: there is no try, or no PIN.
        """

    @abstractmethod
    async def _set(self, known: bytearray, new: bytearray) -> None:
        """Tell the card, once."""

    @abstractmethod
    def _said(self, error: InlayError) -> str:
        """What of a wrong PIN or PUK is said when it is asked for again."""

    @abstractmethod
    async def _trial(self) -> tuple[KnownSecret, str] | None:
        """The field for the PIN that is tried to find out which one the card has, and what that costs.

        Returns:
            None: the card has the PIN that it had, without a try.

        Raises:
            InlayError: ``card_pin_unknown``: too few tries are left for it, or the card doesn't come back.
        """

    @abstractmethod
    async def _try(self, pin: bytearray) -> None:
        """See whether a PIN is the card's, which costs a try where it isn't; it isn't needed any more afterwards."""

    @abstractmethod
    async def _close(self) -> None:
        """The work on the card is over."""

    def _as_raised(self, error: InlayError) -> InlayError:
        """What ends the order, by its right name."""
        return error

    def _leaves_unknown(self, error: InlayError) -> bool:
        """Whether nobody knows, after this, if the card has done what it was told."""
        return error.code in self.unknown

    # --- what doesn't

    async def _until_it_is_set(self, agreed: Proceed) -> None:
        said = ""
        while True:
            answer = await ask(self._context, await self._question(said))
            known: bytearray | None = None
            try:
                known, new = self._told(answer, agreed)
                await to_its_end(self._tell(known, new))
            except InlayError as error:
                if error.code in self.wrong and self._typed:
                    said = self._said(error)
                elif not self._leaves_unknown(error):
                    raise self._as_raised(error) from None
                elif await self._is_set_after_all(answer):
                    await self._context.record(self._step, nothing())
                    return
                else:
                    said = _AS_IT_WAS
                await self._context.record(REFUSED, nothing())
            else:
                return
            finally:
                answer.wipe()
                if known is not None:
                    known[:] = bytes(len(known))

    async def _question(self, said: str) -> OrderPrompt:
        """What is asked for now: the tries that are left stand above it."""
        known, few = await self._fields()
        return dataclasses.replace(
            self._context.prompt,
            known=known,
            pin_policy=self._rules,
            warning=" ".join(text for text in (said, few) if text) or None,
        )

    def _told(self, answer: Consented, agreed: Proceed) -> tuple[bytearray, bytearray]:
        """What the card is told: what it wants to know, and the new PIN.

        Raises:
            InlayError: ``card_pin_form``: the card takes no PIN of this length.
        """
        if answer.pin is None or not keeps_rules(self._rules, answer.pin):
            raise WindowFailed(None)
        shortest, longest = self._lengths
        if len(answer.pin) < shortest or 0 < longest < len(answer.pin):
            raise InlayError("card_pin_form")
        if self._typed:
            if answer.known is None:
                raise WindowFailed(None)
            return bytearray(answer.known), answer.pin
        if agreed.puk is None:
            raise DecodeError("params_invalid", "$.puk")
        return self._context.decrypt(agreed.puk), answer.pin

    async def _tell(self, known: bytearray, new: bytearray) -> None:
        window = self._context.window
        await window.show_progress("pin", "Setting the PIN", 2, STEPS, can_cancel=False)
        await self._set(known, new)

    async def _is_set_after_all(self, answer: Consented) -> bool:
        """After a command without an answer: the person types the PIN that they think the card has.

        Raises:
            InlayError: ``card_pin_unknown``: as `_trial`, or the person doesn't want to.
        """
        while True:
            trial = await self._trial()
            if trial is None:
                return False
            field, costs = trial
            asked = dataclasses.replace(
                self._context.prompt,
                known=field,
                pin_policy=None,
                warning=f"{TORN}{costs}",
                confirm_label="Try",
            )
            try:
                told = await ask(self._context, asked)
            except InlayError:
                raise InlayError("card_pin_unknown") from None
            try:
                if told.known is None:
                    raise WindowFailed(None)
                await self._try(told.known)
                return bytes(told.known) == bytes(answer.pin or b"")
            except InlayError as error:
                if error.code == self.wrong_pin and told.known == answer.pin:
                    return False  # it isn't the new one
                if error.code != self.wrong_pin and error.code not in self.unknown:
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

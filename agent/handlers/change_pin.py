"""*Change PIN*: an order of the portal by which the person chooses a new PIN for a card that is there.

The point of no return is the moment in which the card takes the new PIN, just before the receipt: a cut before it
leaves the old PIN and the order is undone, one after it leaves the new PIN and the receipt is sent at the next start.
Which of the two it was, the card itself tells (``pin_mark``), not the journal.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Final

from agent.card_ports import ordered_card
from agent.handlers.card_dialogue import card_name
from agent.handlers.change_card_pin import CONSEQUENCES, DONE, NOTES
from agent.handlers.order_steps import account_line, agree, ask
from agent.handlers.pin_at_pad import see_that_it_can_be_typed
from agent.handlers.pin_questions import known_pin, set_new_pin
from agent.pin_rules import LONGEST_PIN, PIV_PIN_MINIMUM, plain_rules
from agent.ports import InteractionError, KnownSecret, OrderPrompt
from agent.unbroken import to_its_end
from protocol.errors import DecodeError, InlayError
from protocol.messages import ChangePin, Receipt, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.card_ports import CardKeeping
    from agent.order_ports import OrderContext
    from agent.ports import Consented
    from protocol.messages import Message, Order

_CHANGE: Final = "change pin"
_STEPS: Final = 3


class ChangePinHandler:
    """The operation *change PIN*; see ``agent.order_ports.OrderHandler`` and ``GoesForward``."""

    def __init__(self, cards: CardKeeping) -> None:
        """Change PINs of these cards."""
        self._cards = cards

    def prompt(self, order: Order, portal_name: str) -> OrderPrompt:
        """The consent page, with the rules for the new PIN.

        Raises:
            InlayError: ``pin_policy_unsatisfiable``, ``encoding_unsupported``.
        """
        ordered = _ordered(order)
        see_that_it_can_be_typed(ordered)
        return OrderPrompt(
            portal_name=portal_name,
            origin=order.origin,
            account=account_line(order),
            title="Change the PIN of your card",
            consequences=CONSEQUENCES,
            pin_policy=plain_rules(ordered.pin_policy),
            confirm_label="Change PIN",
            card=ordered.label,
            known=KnownSecret("PIN of the card", PIV_PIN_MINIMUM, LONGEST_PIN),
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt; a wrong PIN is asked again, and costs the try that it is."""
        ordered = _ordered(context.order)
        card = ordered_card(await self._cards.known(), ordered.guid, context.order.iss).card
        await context.progress(Step.CONSENT)
        agreed = False

        async def question(warning: str | None) -> Consented:
            nonlocal agreed
            standing = await self._cards.standing(card)
            prompt = dataclasses.replace(
                context.prompt, card=card_name(standing), known=known_pin(standing), warning=warning
            )
            answer = await ask(context, prompt)
            try:
                if not agreed:
                    await agree(context, total=_STEPS)
                    agreed = True
            except BaseException:
                answer.wipe()
                raise
            return answer

        async def change(known: bytearray, new: bytearray) -> None:
            await context.window.show_progress("pin", "Changing the PIN", 1, _STEPS, can_cancel=False)
            await to_its_end(self._change(context, card, known, new))

        await set_new_pin(self._cards, card, "PIN", question, change, plain_rules(ordered.pin_policy))
        with contextlib.suppress(InteractionError):
            await context.window.show_progress(
                Step.FINISHED, "Waiting for the portal to confirm", 2, _STEPS, can_cancel=False
            )

    async def finish(self, context: OrderContext) -> None:
        """The portal has it: the person is told."""
        with contextlib.suppress(InteractionError):  # the PIN is changed, with or without a window
            await context.window.show_done(DONE, NOTES)

    async def undo(self, order: Order) -> None:
        """Nothing was made that could be removed: before the point of no return the card is as it was."""

    async def receipt_after(self, order: Order, steps: Sequence[tuple[str, str]]) -> Message | None:
        """The receipt, when the card has another PIN than the one that was going to be changed."""
        marks = [step.removeprefix(_CHANGE).strip() for step, _ in steps if step.startswith(_CHANGE)]
        if not marks:
            return None
        ordered = _ordered(order)
        try:
            card = ordered_card(await self._cards.known(), ordered.guid, order.iss).card
            standing = await self._cards.standing(card)
        except InlayError:
            return None  # the card is gone, or can't be read: the order is undone
        return None if standing.pin_mark == marks[-1] else await self._receipt(card, ordered)

    async def _change(self, context: OrderContext, card: str, known: bytearray, new: bytearray) -> None:
        """The point of no return, and the receipt behind it."""
        mark = (await self._cards.standing(card)).pin_mark
        await context.record(f"{_CHANGE} {mark}", self._cards.change_pin(card, known, new))
        try:
            await context.send(await self._receipt(card, _ordered(context.order)))
        except InlayError:
            raise InlayError("pin_changed_anyway") from None

    async def _receipt(self, card: str, ordered: ChangePin) -> Receipt:
        standing = await self._cards.standing(card)
        return Receipt(guid=ordered.guid, generation=standing.facts.generation, storage=standing.facts.level)


def _ordered(order: Order) -> ChangePin:
    if not isinstance(order.parameters, ChangePin):
        raise DecodeError("order_malformed", "$.parameters.operation")
    return order.parameters

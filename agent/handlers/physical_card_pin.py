"""The PIN of a card in a reader, typed and right, before an order uses its keys; asked for while there are tries."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Literal

from agent.awaited_card import GONE
from agent.handlers.order_steps import ask
from agent.pad_entry import has_pad
from agent.pcsc import piv_pin
from agent.pin_rules import PIV_PIN_BYTES, PIV_PIN_MINIMUM
from agent.ports import KnownSecret, WindowFailed
from agent.tries import Tries
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.order_ports import OrderContext
    from agent.returning_card import ReturningCard

KNOWN: Final = KnownSecret("PIN of the card", PIV_PIN_MINIMUM, PIV_PIN_BYTES)
_TORN: Final = "The card went away while its PIN was checked: a try may have been spent."
CANT_ASK: Final = frozenset({"pad_missing", "pad_refused", "pad_too_small"})
"""What a reader with keys says that can't ask for this card's PIN after all."""


async def right_pin(
    context: OrderContext,
    card: ReturningCard,
    typed: Callable[[], Awaitable[None]],
    where: Literal["window", "pad", "auto"] = "window",
) -> bytearray:
    """The card's PIN; the caller wipes it. A wrong one costs the try that it is, and is never sent a second time.

    Args:
        context: the order, in whose window it is asked for.
        card: the card; waited for where it isn't there.
        typed: shows that something is done, once the person has typed.
        where: where it is typed; ``auto``: at the reader where that can ask for it.

    Returns:
        The PIN; nothing where it is typed at the reader, and asked for there whenever the card wants it.

    Raises:
        InlayError: ``card_pin_blocked``; ``pad_…``; ``user_cancelled`` …
    """
    if where != "window" and await _right_at_pad(context, card, where):
        return bytearray()
    wrong, said = "", Tries("PIN")
    while True:
        tries = await context.guard(card.run(piv_pin.tries_left))
        if tries == 0:
            raise InlayError("card_pin_blocked")
        prompt = dataclasses.replace(
            context.prompt, known=KNOWN, warning=said.warning(tries, wrong), confirm_label="Go on"
        )
        answer = await ask(context, prompt)
        try:
            if answer.known is None:
                raise WindowFailed(None)
            await typed()
            await card.verify(answer.known)
            return bytearray(answer.known)
        except InlayError as error:
            if error.code == "card_pin_wrong":
                wrong = error.happened
                said.refused(error)
            elif error.code in GONE:
                wrong = _TORN
                said.unsure()
            else:
                raise
        finally:
            answer.wipe()


async def _right_at_pad(context: OrderContext, card: ReturningCard, where: Literal["pad", "auto"]) -> bool:
    """Have the PIN typed at the reader; whether that can ask for it: one that has to, can."""
    if where == "auto" and not await context.guard(card.run(has_pad)):
        return False
    try:
        await context.guard(card.verify_at_pad())
    except InlayError as error:
        if where == "pad" or error.code not in CANT_ASK:
            raise
        await card.let_go()  # the window asks, and nobody is waited for with a card that is held
        return False
    return True


def portals_puk(error: InlayError) -> InlayError:
    """An error of a PUK that nobody typed, because the portal brought it: ``card_puk_wrong`` is ``card_puk_other``."""
    return InlayError("card_puk_other", **error.fields) if error.code == "card_puk_wrong" else error

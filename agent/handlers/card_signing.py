"""What *authenticate* and *sign* have in common: the card's PIN, one signature, the receipt.

Nothing is changed on the card, so nothing is undone; a PIN that is wrong costs the try that it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Final

from agent.card_ports import ordered_card
from agent.handlers.card_dialogue import card_name
from agent.handlers.order_steps import agree, ask
from agent.handlers.pin_questions import known_pin, tries_warning
from agent.ports import InteractionError, WindowFailed
from protocol.errors import InlayError
from protocol.messages import Receipt, Step

if TYPE_CHECKING:
    from agent.card_ports import CardKeeping
    from agent.order_ports import OrderContext
    from protocol.messages import Authenticate, CardSignature, Sign

_STEPS: Final = 3


def check_driver(ordered: Authenticate | Sign) -> None:
    """See that the card is of a kind that this version signs with.

    Raises:
        InlayError: ``encoding_unsupported``.
    """
    if ordered.driver != "virtual":
        raise InlayError("encoding_unsupported", what=f"a card by the driver {ordered.driver}")


async def sign_and_tell(
    context: OrderContext, cards: CardKeeping, ordered: Authenticate | Sign, slot: str, digest: bytes
) -> None:
    """From consent to the receipt.

    Raises:
        InlayError: ``pin_blocked``, ``card_key_missing``, ``card_elsewhere`` …
    """
    card = ordered_card(await cards.known(), ordered.guid, context.order.iss).card
    await context.progress(Step.CONSENT)
    signature = await _signature(context, cards, card, slot, digest)
    with contextlib.suppress(InteractionError):
        await context.window.show_progress(
            Step.FINISHED, "Waiting for the portal to confirm", 2, _STEPS, can_cancel=False
        )
    generation = (await cards.standing(card)).facts.generation
    await context.send(Receipt(guid=ordered.guid, generation=generation, signature=signature))


async def _signature(
    context: OrderContext, cards: CardKeeping, card: str, slot: str, digest: bytes
) -> CardSignature:
    """Ask for the PIN as often as the card has tries; the portal has agreed before the first one is spent."""
    wrong: InlayError | None = None
    agreed = False
    while True:
        standing = await cards.standing(card)
        if not standing.pin_tries:
            raise InlayError("pin_blocked")
        warning = tries_warning("PIN", standing.pin_tries, wrong)
        prompt = dataclasses.replace(
            context.prompt, card=card_name(standing), known=known_pin(standing), warning=warning
        )
        answer = await ask(context, prompt)
        try:
            if not agreed:
                await agree(context, total=_STEPS)
                agreed = True
            if answer.known is None:
                raise WindowFailed(None)
            await context.progress(Step.PROVING)
            return await context.guard(cards.sign(card, slot, digest, answer.known))
        except InlayError as error:
            if error.code != "pin_wrong":
                raise
            wrong = error
        finally:
            answer.wipe()

"""*Delete virtual card*: an order of the portal by which a card goes, on both sides.

The card is there until the portal has the receipt and says ``finished``: undone before, nothing has changed; afterwards
it is removed, again at the next start if that was cut short.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Final

from agent.card_ports import closed_card, ordered_card
from agent.handlers.card_dialogue import card_name
from agent.handlers.delete_card import WARNING, WORD, card_losses
from agent.handlers.order_steps import account_line, agree, ask
from agent.ports import InteractionError, OrderPrompt
from protocol.errors import DecodeError
from protocol.messages import DeleteVirtualCard, Receipt, Step

if TYPE_CHECKING:
    from agent.card_ports import CardKeeping
    from agent.order_ports import OrderContext
    from protocol.messages import Order

_STEPS: Final = 2
_AT_PORTAL: Final = "The portal revokes its certificates: nobody can use them any more, on any computer."


class DeleteVirtualCardHandler:
    """The operation *delete virtual card*; see ``agent.order_ports.OrderHandler``."""

    def __init__(self, cards: CardKeeping) -> None:
        """Delete among these cards."""
        self._cards = cards

    def prompt(self, order: Order, portal_name: str) -> OrderPrompt:
        """The consent page; what is lost stands there once the card was found."""
        return OrderPrompt(
            portal_name=portal_name,
            origin=order.origin,
            account=account_line(order),
            title="Delete your card",
            consequences=(_AT_PORTAL,),
            pin_policy=None,
            confirm_label="Delete",
            card=_ordered(order).label,
            warning=WARNING,
            typed=WORD,
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt; nothing is removed yet."""
        ordered = _ordered(context.order)
        card = ordered_card(await self._cards.known(), ordered.guid, context.order.iss).card
        standing = await self._cards.standing(card)
        await context.progress(Step.CONSENT)
        lost = (*card_losses(standing), *context.prompt.consequences)
        await ask(context, dataclasses.replace(context.prompt, card=card_name(standing), consequences=lost))
        await agree(context, total=_STEPS)
        await context.window.show_progress(
            Step.FINISHED, "Waiting for the portal to confirm", 1, _STEPS, can_cancel=False
        )
        await context.send(
            Receipt(guid=ordered.guid, generation=standing.facts.generation, storage=standing.facts.level)
        )

    async def finish(self, context: OrderContext) -> None:
        """The portal has confirmed: the card goes; harmless when it is gone."""
        guid, portal = _ordered(context.order).guid, context.order.iss
        known = await self._cards.known()
        found = [card.card for card in known if card.guid == guid and card.portal == portal]
        if not found and (shut := closed_card(known, portal)) is not None:
            raise shut  # it may be that one: the next start tries again
        for card in found:
            await context.record("delete", self._cards.delete(card))
        said = ("It is gone from this computer, and its certificates are revoked.",)
        with contextlib.suppress(InteractionError):  # the card is gone, with or without a window
            await context.window.show_done("The card is deleted", said)

    async def undo(self, order: Order) -> None:
        """Nothing was removed."""


def _ordered(order: Order) -> DeleteVirtualCard:
    if not isinstance(order.parameters, DeleteVirtualCard):
        raise DecodeError("order_malformed", "$.parameters.operation")
    return order.parameters

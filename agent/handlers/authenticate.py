"""*Authenticate*: an order by which a card shows the portal, for this origin alone, that the person has it and its PIN.

The signature is bound to the origin that the agent itself has checked, so that a page which only passes the portal's
challenge on to another one gets nothing that is good there.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Final

from agent.handlers.card_signing import carry_out, known_at_consent
from agent.handlers.order_steps import account_line
from agent.ports import InteractionError, OrderPrompt
from protocol import proofs
from protocol.errors import DecodeError
from protocol.messages import Authenticate

if TYPE_CHECKING:
    from agent.card_ports import CardKeeping
    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from protocol.messages import Order

_SLOT: Final = "9A"


class AuthenticateHandler:
    """The operation *authenticate*; see ``agent.order_ports.OrderHandler``."""

    def __init__(self, cards: CardKeeping, readers: CardReaders) -> None:
        """Authenticate with one of these cards, or with one in these readers."""
        self._cards, self._readers = cards, readers

    def prompt(self, order: Order, portal_name: str) -> OrderPrompt:
        """The consent page, with a field for the card's PIN.

        Raises:
            InlayError: ``order_malformed``.
        """
        ordered = _ordered(order)
        return OrderPrompt(
            portal_name=portal_name,
            origin=order.origin,
            account=account_line(order),
            title="Show that you have your card",
            consequences=(
                f"The card signs that you are at {order.origin} now; that is good nowhere else.",
                "Nothing on the card is changed.",
            ),
            pin_policy=None,
            confirm_label="Authenticate",
            card=ordered.label,
            known=known_at_consent(ordered),
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt."""
        ordered = _ordered(context.order)
        message = proofs.authentication_input(context.order.origin, ordered.challenge)
        await carry_out(context, self._cards, self._readers, ordered, _SLOT, hashlib.sha256(message).digest())

    async def finish(self, context: OrderContext) -> None:
        """The portal has it."""
        with contextlib.suppress(InteractionError):
            await context.window.show_done("The portal knows your card", ("Go back to the page.",))

    async def undo(self, order: Order) -> None:
        """Nothing was changed."""


def _ordered(order: Order) -> Authenticate:
    if not isinstance(order.parameters, Authenticate):
        raise DecodeError("order_malformed", "$.parameters.operation")
    return order.parameters

"""*Sign*: an order by which a card's signature key signs a document's digest, whose name consent shows."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from agent.handlers.card_signing import carry_out, known_at_consent
from agent.handlers.order_steps import account_line
from agent.ports import InteractionError, OrderPrompt
from protocol.errors import DecodeError
from protocol.messages import Sign

if TYPE_CHECKING:
    from agent.card_ports import CardKeeping
    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from protocol.messages import Order

_SLOT: Final = "9C"


class SignHandler:
    """The operation *sign*; see ``agent.order_ports.OrderHandler``."""

    def __init__(self, cards: CardKeeping, readers: CardReaders) -> None:
        """Sign with one of these cards, or with one in these readers."""
        self._cards, self._readers = cards, readers

    def prompt(self, order: Order, portal_name: str) -> OrderPrompt:
        """The consent page: the document, the beginning and end of its digest, and a field for the card's PIN.

        Raises:
            InlayError: ``order_malformed``.
        """
        ordered = _ordered(order)
        return OrderPrompt(
            portal_name=portal_name,
            origin=order.origin,
            account=account_line(order),
            title="Sign a document",
            consequences=(
                f"You sign “{ordered.document}”. Your signature can't be taken back.",
                f"Its fingerprint (SHA-256) is {ordered.digest.hex(' ', 4)}.",
            ),
            pin_policy=None,
            confirm_label="Sign",
            card=ordered.label,
            known=known_at_consent(ordered),
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt."""
        ordered = _ordered(context.order)
        await carry_out(context, self._cards, self._readers, ordered, _SLOT, ordered.digest)

    async def finish(self, context: OrderContext) -> None:
        """The portal has it."""
        document = _ordered(context.order).document
        with contextlib.suppress(InteractionError):
            await context.window.show_done(
                "The document is signed", (f"“{document}”", "Go back to the page.")
            )

    async def undo(self, order: Order) -> None:
        """Nothing was changed on the card; a signature that was made was given to nobody."""


def _ordered(order: Order) -> Sign:
    if not isinstance(order.parameters, Sign):
        raise DecodeError("order_malformed", "$.parameters.operation")
    return order.parameters

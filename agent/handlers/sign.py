"""*Sign*: an order by which a card's signature key signs a document's digest, whose name consent shows."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from agent.handlers.card_signing import check_driver, sign_and_tell
from agent.handlers.order_steps import account_line
from agent.pin_rules import LONGEST_PIN, PIV_PIN_MINIMUM
from agent.ports import InteractionError, KnownSecret, OrderPrompt
from protocol.errors import DecodeError
from protocol.messages import Sign

if TYPE_CHECKING:
    from agent.card_ports import CardKeeping
    from agent.order_ports import OrderContext
    from protocol.messages import Order

_SLOT: Final = "9C"


class SignHandler:
    """The operation *sign*; see ``agent.order_ports.OrderHandler``."""

    def __init__(self, cards: CardKeeping) -> None:
        """Sign with one of these cards."""
        self._cards = cards

    def prompt(self, order: Order, portal_name: str) -> OrderPrompt:
        """The consent page: the document, the beginning and end of its digest, and a field for the card's PIN.

        Raises:
            InlayError: ``encoding_unsupported``; ``order_malformed``.
        """
        ordered = _ordered(order)
        check_driver(ordered)
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
            known=KnownSecret("PIN of the card", PIV_PIN_MINIMUM, LONGEST_PIN),
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt."""
        ordered = _ordered(context.order)
        await sign_and_tell(context, self._cards, ordered, _SLOT, ordered.digest)

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

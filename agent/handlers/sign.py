"""*Sign*: an order by which a card's signature key signs a document's digest, whose name consent shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from agent.handlers.card_signing import Telling, UseKeyHandler
from protocol.errors import DecodeError
from protocol.messages import Sign

if TYPE_CHECKING:
    from protocol.messages import Order


class SignHandler(UseKeyHandler[Sign]):
    """The operation *sign*: consent shows the document, and its whole digest."""

    slot: ClassVar[str] = "9C"

    def _ordered(self, order: Order) -> Sign:
        if not isinstance(order.parameters, Sign):
            raise DecodeError("order_malformed", "$.parameters.operation")
        return order.parameters

    def _told(self, order: Order, ordered: Sign) -> Telling:
        return Telling(
            title="Sign a document",
            consequences=(
                f"You sign “{ordered.document}”. Your signature can't be taken back.",
                f"Its fingerprint (SHA-256) is {ordered.digest.hex(' ', 4)}.",
            ),
            confirm_label="Sign",
            done="The document is signed",
            done_lines=(f"“{ordered.document}”", "Go back to the page."),
        )

    def _digest(self, order: Order, ordered: Sign) -> bytes:
        return ordered.digest

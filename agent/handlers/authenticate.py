"""*Authenticate*: an order by which a card shows the portal, for this origin alone, that the person has it and its PIN.

The signature is bound to the origin that the agent itself has checked, so that a page which only passes the portal's
challenge on to another one gets nothing that is good there.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, ClassVar

from agent.handlers.card_signing import Telling, UseKeyHandler
from protocol import proofs
from protocol.errors import DecodeError
from protocol.messages import Authenticate

if TYPE_CHECKING:
    from protocol.messages import Order


class AuthenticateHandler(UseKeyHandler[Authenticate]):
    """The operation *authenticate*."""

    slot: ClassVar[str] = "9A"

    def _ordered(self, order: Order) -> Authenticate:
        if not isinstance(order.parameters, Authenticate):
            raise DecodeError("order_malformed", "$.parameters.operation")
        return order.parameters

    def _told(self, order: Order, ordered: Authenticate) -> Telling:
        return Telling(
            title="Show that you have your card",
            consequences=(
                f"The card signs that you are at {order.origin} now; that is good nowhere else.",
                "Nothing on the card is changed.",
            ),
            confirm_label="Authenticate",
            done="The portal knows your card",
            done_lines=("Go back to the page.",),
        )

    def _digest(self, order: Order, ordered: Authenticate) -> bytes:
        return hashlib.sha256(proofs.authentication_input(order.origin, ordered.challenge)).digest()

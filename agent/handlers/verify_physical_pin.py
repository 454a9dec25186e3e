"""*Verify PIN* of a card in a reader: whoever has it sees whether the PIN that they know is the card's.

Each try is typed. Software repeats none: an order that was interrupted is undone, and another one asks anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.handlers.card_in_reader import AT_CARD, STEPS, CardInReaderHandler, Telling, begin, card_of, tell
from agent.handlers.physical_card_pin import right_pin
from agent.handlers.token_pin_entry import right_token_pin
from agent.returning_card import ReturningCard
from agent.returning_token import ReturningToken
from protocol.messages import Receipt, VerifyPin

if TYPE_CHECKING:
    from agent.order_ports import OrderContext


class VerifyPhysicalPinHandler(CardInReaderHandler[VerifyPin]):
    """The operation *verify PIN*."""

    kind = VerifyPin

    def _told(self, ordered: VerifyPin) -> Telling:
        return Telling(
            "Check the PIN of your card",
            (
                "You type the PIN, and the card says whether it is right. A wrong one costs one of its tries.",
                "Nothing is changed on the card. The portal is told that the PIN is right, never the PIN.",
            ),
            "The PIN is right",
            "The card has accepted it.",
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt.

        Raises:
            InlayError: ``card_pin_blocked``, ``pkcs11_pin_not_set``, ``pad_missing``, ``user_cancelled`` …
        """
        ordered = self._ordered(context.order)
        await begin(context)

        async def typed() -> None:
            await context.window.show_progress("pin", "Checking the PIN", 2, STEPS, can_cancel=False)

        pin = bytearray()
        try:
            if ordered.driver == "piv":
                card = ReturningCard(context, self._readers, card_of(ordered), AT_CARD)
                try:
                    pin = await right_pin(context, card, typed, ordered.where)
                finally:
                    await card.close()
            else:
                token = ReturningToken(context, self._readers, card_of(ordered), AT_CARD)
                try:
                    pin = await right_token_pin(context, token, typed, ordered.where)
                finally:
                    await token.close()
        finally:
            pin[:] = bytes(len(pin))
        await tell(context, Receipt(guid=ordered.guid))

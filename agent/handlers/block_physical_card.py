"""*Block card*: PIN and PUK of a Locked card in a reader are made unusable on the card itself; of a token its PIN.

Torn out in the middle it goes on where it was, for each wrong try counts. An agent that is stopped in the middle says
that the card is half done, and another order goes on.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from agent.handlers import token_block
from agent.handlers.card_in_reader import AT_CARD, STEPS, CardInReaderHandler, Telling, begin, card_of, tell
from agent.handlers.encode_in_reader import HalfDone
from agent.pcsc import piv_block
from agent.returning_card import ReturningCard
from agent.returning_token import ReturningToken
from protocol.errors import InlayError
from protocol.messages import BlockCard, Receipt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.order_ports import OrderContext
    from protocol.messages import Message, Order

STEP: Final = "block card"
"""What running the tries down is called in the journal."""


class BlockPhysicalCardHandler(CardInReaderHandler[BlockCard]):
    """The operation *block card*; see ``agent.order_ports.GoesForward``, too."""

    kind = BlockCard

    def _told(self, ordered: BlockCard) -> Telling:
        if ordered.driver == "pkcs11":
            return Telling(
                "Block the PIN of the card",
                (
                    "The PIN of this card is made unusable: wrong ones are sent to it until no try is left.",
                    "Whoever has its PUK could set another PIN, or erase the card and use it again. Nobody else can.",
                    "You need the card, and a reader. You are asked for no PIN.",
                ),
                "The PIN is blocked",
                "Nobody can use the card's keys without its PUK.",
                "Block",
            )
        return Telling(
            "Block the card for good",
            (
                "PIN and PUK of this card are made unusable: wrong ones are sent to it until no try is left.",
                "This can't be undone: its keys are of no use any more. Some cards can be erased and encoded anew "
                "afterwards, for most it is the end.",
                "You need the card, and a reader. You are asked for no PIN.",
            ),
            "The card is blocked",
            "Nobody can use its keys any more.",
            "Block",
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt.

        Raises:
            InlayError: ``card_other``: nothing was sent to it; ``card_refused``; ``pkcs11_never_blocks`` …;
                ``timeout``, ``user_cancelled`` …
            HalfDone: any of these but ``pkcs11_never_blocks``, when tries were spent before.
        """
        ordered = self._ordered(context.order)
        await begin(context)
        if ordered.driver == "piv":
            await self._block_card(context, ordered)
        else:
            await self._block_token(context, ordered)
        await tell(context, Receipt(guid=ordered.guid))

    async def _block_card(self, context: OrderContext, ordered: BlockCard) -> None:
        card = ReturningCard(context, self._readers, card_of(ordered), AT_CARD)
        sent = threading.Event()

        async def block() -> None:
            card.changed = True
            await context.window.show_progress("pin", "Blocking the card", 2, STEPS, can_cancel=False)
            await card.run(piv_block.block, ordered.guid, sent.set)

        try:
            await context.guard(card.run(_nothing))  # waited for before the point of no return
            await context.record(STEP, block())
        except InlayError as error:
            raise (HalfDone(error) if sent.is_set() else error) from None
        finally:
            await card.close()

    async def _block_token(self, context: OrderContext, ordered: BlockCard) -> None:
        token = ReturningToken(context, self._readers, card_of(ordered), AT_CARD)
        sent = threading.Event()

        async def block() -> None:
            token.changed = True
            await context.window.show_progress("pin", "Blocking the PIN", 2, STEPS, can_cancel=False)
            await token_block.block(token, sent.set)

        try:
            token_block.see_that_it_can_be_blocked(await context.guard(token.look()))
            await context.record(STEP, block())
        except InlayError as error:
            half_done = sent.is_set() and error.code != "pkcs11_never_blocks"  # no order finishes that
            raise (HalfDone(error) if half_done else error) from None
        finally:
            await token.close()

    async def receipt_after(self, order: Order, steps: Sequence[tuple[str, str]]) -> Message | None:
        """After a restart: the receipt when the card is blocked, None when it was told nothing.

        Raises:
            InlayError: ``card_half_done``: some tries may be spent.
        """
        told = [moment for step, moment in steps if step == STEP]
        if not told:
            return None
        if told[-1] == "after":
            return Receipt(guid=self._ordered(order).guid)
        raise InlayError("card_half_done")


def _nothing(_card: object) -> None:
    return

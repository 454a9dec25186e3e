"""*Change PUK* of a card in a reader: its PUK gives way to another one, which the portal keeps.

The PUK that the card has is the portal's, or is typed by the person where the portal hasn't got it. Before the one
command the portal is told that it comes, so that it keeps both when no answer comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.handlers.card_in_reader import AT_CARD, STEPS, CardInReaderHandler, Telling, begin, card_of, tell
from agent.handlers.new_puk import STEP, replace_puk
from agent.handlers.physical_card_pin import portals_puk
from agent.handlers.token_puk import TokenPuk
from agent.handlers.typed_puk import replace_typed_puk
from agent.management_proof import key_of
from agent.pcsc import piv_pin
from agent.pcsc.piv_names import PUK
from agent.returning_card import ReturningCard
from agent.returning_token import ReturningToken
from protocol.errors import InlayError
from protocol.messages import ChangePuk, Changing, Receipt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.order_ports import OrderContext
    from protocol.messages import Message, Order, Proceed


class ChangePhysicalPukHandler(CardInReaderHandler[ChangePuk]):
    """The operation *change PUK*; see ``agent.order_ports.GoesForward``, too."""

    kind = ChangePuk

    def _told(self, ordered: ChangePuk) -> Telling:
        typed = "You type the PUK (unblocking code) that the card has. " if ordered.puk == "typed" else ""
        return Telling(
            "Change the PUK of the card",
            (
                f"{typed}The portal gives the card another PUK{'' if typed else ' (unblocking code)'}, and keeps it. "
                "One that was written down is good no more.",
                "You need the card, and a reader. PIN, keys and certificates stay as they are.",
            ),
            "The portal has the card's PUK" if not typed else "Inlay is done with the card",
            "The page says whether the card has taken the new one.",
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt.

        Raises:
            InlayError: ``card_puk_blocked``, ``card_puk_other``, ``card_puk_wrong``, ``card_puk_unknown`` …; of a
                token ``pkcs11_puk_wrong``, ``pkcs11_no_officer`` …
        """
        ordered = self._ordered(context.order)
        agreed = await begin(context)
        if ordered.driver == "piv":
            replaced = await self._on_card(context, ordered, agreed)
        else:
            token = ReturningToken(context, self._readers, card_of(ordered), AT_CARD)
            try:
                replaced = await TokenPuk(context, token, agreed).change(typed=ordered.puk == "typed")
            finally:
                await token.close()
        await tell(context, Receipt(guid=ordered.guid, puk_replaced=replaced))

    async def _on_card(self, context: OrderContext, ordered: ChangePuk, agreed: Proceed) -> bool:
        key = key_of(context, ordered)
        card = ReturningCard(context, self._readers, card_of(ordered), AT_CARD, key)
        try:
            if key is not None:
                await context.guard(card.prove_key())
                agreed = key.completed(agreed)
            if ordered.puk == "typed":
                return await replace_typed_puk(context, card, agreed)
            if await context.guard(card.run(piv_pin.tries_left, PUK)) == 0:
                raise InlayError("card_puk_blocked")  # noqa: TRY301 - as what `replace_puk` raises
            await context.send(Changing())
            await context.guard(context.delivered())
            await context.window.show_progress("puk", "Changing the PUK", 2, STEPS, can_cancel=False)
            return await replace_puk(context, card, agreed)
        except InlayError as error:
            raise (error if ordered.puk == "typed" else portals_puk(error)) from None
        finally:
            await card.close()

    async def receipt_after(self, order: Order, steps: Sequence[tuple[str, str]]) -> Message | None:
        """After a restart: the receipt when the card had answered, None when it was never told.

        Raises:
            InlayError: ``card_half_done``: it was told, and its answer isn't known; another order finds out.
        """
        told = [moment for step, moment in steps if step == STEP]
        if not told:
            return None
        if told[-1] == "after":
            return Receipt(guid=self._ordered(order).guid, puk_replaced=True)
        raise InlayError("card_half_done")

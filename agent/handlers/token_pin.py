"""*Change PIN* and *unblock PIN* of a card by the driver *pkcs11*; see ``agent.handlers.pin_setting``.

C_SetPIN is sent once; where its answer never came, only the person may spend a try to find out which PIN the card has.
To unblock, the PUK is proved by itself, once; that it is right, C_InitPIN may be said again without costing a try.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.handlers.pin_setting import AT_CARD, PinSetting
from agent.handlers.token_pin_at_pad import TokenPinAtPad
from agent.handlers.token_pin_entry import (
    known_pin,
    known_puk,
    puk_warning,
    see_that_pin_can_be_tried,
    see_that_puk_can_be_tried,
)
from agent.returning_card import PhysicalCard
from agent.returning_token import ReturningToken
from agent.token_pad import warning_of
from agent.token_presence import UNKNOWN
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.handlers.pin_setting import By
    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from agent.pin_rules import PinRules
    from agent.ports import KnownSecret
    from protocol.messages import ChangePin, UnblockPin


class TokenPinWork(PinSetting):
    """One order's work on the PIN of a token."""

    wrong = frozenset({"pkcs11_pin_wrong", "pkcs11_puk_wrong"})
    wrong_pin = "pkcs11_pin_wrong"
    unknown = UNKNOWN

    def __init__(
        self,
        context: OrderContext,
        readers: CardReaders,
        ordered: ChangePin | UnblockPin,
        rules: PinRules,
        by: By,
    ) -> None:
        """Prepare: `readers` is where the card is, the rest as for `PinSetting`."""
        super().__init__(context, ordered, rules, by)
        which = PhysicalCard(ordered.driver, ordered.guid, ordered.label)
        self._again = False
        self._card = ReturningToken(context, readers, which, AT_CARD)

    async def _at_reader(self) -> bool:
        return await TokenPinAtPad(self._context, self._card, self._ordered, self._step).sets_it()

    async def _fields(self) -> tuple[KnownSecret | None, str | None]:
        token = await self._context.guard(self._card.look())
        self._lengths = token.pin_length
        if self._by == "PIN":
            see_that_pin_can_be_tried(token)
            return known_pin(token), warning_of(token, again=self._again)
        see_that_puk_can_be_tried(token)
        return (known_puk(token), puk_warning(token)) if self._typed else (None, None)

    async def _set(self, known: bytearray, new: bytearray) -> None:
        if self._by == "PIN":
            await self._context.record(self._step, self._card.change_pin(known, new))
        else:
            await self._card.prove_puk(known)
            await self._context.record(self._step, self._card.set_pin(known, new))

    def _said(self, error: InlayError) -> str:
        self._again = True
        return error.happened  # what the card says of its tries is said beside it

    async def _trial(self) -> tuple[KnownSecret, str] | None:
        try:
            token = await self._context.guard(self._card.look())
        except InlayError:  # given up, undone, or waited for in vain: nobody found out
            raise InlayError("card_pin_unknown") from None
        if token.pin != "enough" or not token.pin_set:
            raise InlayError("card_pin_unknown")
        return known_pin(token), "a try."

    async def _try(self, pin: bytearray) -> None:
        try:
            await self._card.verify(pin)
        finally:
            await self._card.close()  # logged out, before what was typed is wiped

    async def _close(self) -> None:
        await self._card.close()

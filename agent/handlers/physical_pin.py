"""*Change PIN* and *unblock PIN* of a PIV card; see ``agent.handlers.pin_setting``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.awaited_card import GONE
from agent.handlers.physical_card_pin import KNOWN, portals_puk
from agent.handlers.pin_at_pad import PinAtPad
from agent.handlers.pin_questions import known_puk
from agent.handlers.pin_setting import AT_CARD, PinSetting
from agent.management_proof import key_of
from agent.pcsc import piv_pin
from agent.pcsc.piv_names import PIN, PUK
from agent.returning_card import PhysicalCard, ReturningCard
from agent.tries import Tries
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.handlers.pin_setting import By
    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from agent.pin_rules import PinRules
    from agent.ports import KnownSecret
    from protocol.messages import ChangePin, Proceed, UnblockPin

_SETS: Final = frozenset({"CHANGE REFERENCE DATA", "RESET RETRY COUNTER"})
_SAYS_NOTHING: Final = frozenset({"card_answer_malformed", "card_refused"})
"""What a card says to VERIFY from which nobody learns whether the PIN was right."""
_FEW: Final = 2
"""With so few tries left, or fewer, nobody is asked to spend one only to find out."""


class PinWork(PinSetting):
    """One order's work on the PIN of a PIV card in a reader."""

    wrong = frozenset({"card_pin_wrong", "card_puk_wrong"})
    wrong_pin = "card_pin_wrong"
    unknown = GONE

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
        self._key = key_of(context, ordered)
        self._left = Tries(by)
        self._card = ReturningCard(context, readers, which, AT_CARD, self._key)

    async def _prepared(self, agreed: Proceed) -> Proceed:
        if self._key is None:
            return agreed
        await self._context.guard(self._card.prove_key())
        await self._card.let_go()  # whatever comes back later proves itself again
        return self._key.completed(agreed)

    async def _at_reader(self) -> bool:
        return await PinAtPad(self._context, self._card, self._ordered, self._step).sets_it()

    async def _fields(self) -> tuple[KnownSecret | None, str | None]:
        tries = await self._tries(PIN if self._by == "PIN" else PUK)
        if tries == 0 and self._by == "PIN":
            raise InlayError("card_pin_blocked")
        if tries == 0:
            raise InlayError("card_both_blocked" if await self._tries(PIN) == 0 else "card_puk_blocked")
        if self._key is not None:
            await self._card.let_go()  # nobody is waited for with a card that something was proved to
        if not self._typed:
            return None, None
        known = KNOWN if self._by == "PIN" else known_puk()
        return known, self._left.warning(tries)

    async def _tries(self, reference: int) -> int | None:
        """Tries left; None: the card doesn't tell."""
        return await self._context.guard(self._card.run(piv_pin.tries_left, reference))

    async def _set(self, known: bytearray, new: bytearray) -> None:
        if self._by == "PIN":
            setting = self._card.once(piv_pin.change, PIN, known, new)
        else:
            setting = self._card.once(piv_pin.unblock, known, new)
        await self._context.record(self._step, setting)

    def _said(self, error: InlayError) -> str:
        self._left.refused(error)
        return error.happened  # how many tries are left is said beside it

    def _as_raised(self, error: InlayError) -> InlayError:
        return portals_puk(error)

    async def _trial(self) -> tuple[KnownSecret, str] | None:
        self._left.unsure()
        try:
            tries = await self._context.guard(self._card.run(piv_pin.tries_left, PIN))
        except InlayError:  # given up, undone, or waited for in vain: nobody found out
            raise InlayError("card_pin_unknown") from None
        if tries == 0 and self._by == "PUK":
            return None  # it was blocked before, and still is: the card never got the command
        if tries is None or tries <= _FEW:
            raise InlayError("card_pin_unknown")
        return KNOWN, f"one of {tries} tries."

    def _leaves_unknown(self, error: InlayError) -> bool:
        malformed = error.code == "card_answer_malformed" and error.fields.get("command") in _SETS
        return malformed or super()._leaves_unknown(error)

    async def _try(self, pin: bytearray) -> None:
        try:
            await self._card.once(piv_pin.verify, pin)
        except InlayError as error:
            raise (InlayError("card_pin_unknown") if error.code in _SAYS_NOTHING else error) from None

    async def _close(self) -> None:
        await self._card.close()

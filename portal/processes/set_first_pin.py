"""``CardsSelfServiceProcSetPIN``: whoever has got a card and not its PIN chooses one before it is activated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from portal.encoding.piv_rules import Part
from portal.encoding.problems import problem
from portal.model.states import CardState, Role
from portal.processes import (
    activation,
    card_descriptions,
    card_orders,
    cards,
    pin_entry,
    puks,
    temporary_cards,
)
from portal.processes.definition import OPEN, Step
from portal.processes.extend_temporary_card import PIN_POLICY
from portal.processes.unblock_change_pin import UnblockChangePin, where_unblocked
from protocol.errors import InlayError
from protocol.messages import UnblockPin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.model.objects import CoreObject
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Card, Process

_REFUSED: Final = "puk_refused"
"""Process variable: the card has refused the PUK that the portal keeps."""
_TYPED: Final = "the one in your PUK letter or mail; Inlay asks for it"
_SAYS_NO: Final = (
    "the card has refused the one that the portal keeps, so Inlay asks for it; "
    "if you were told none, ask your support"
)


class SetFirstPin(UnblockChangePin):
    """Orders *unblock PIN* of a card that is Issued; by the PUK that a letter has told, where one has.

    A PUK of the portal's that the card has refused isn't told again: each time costs a try. Then it is typed, too.
    """

    name = "CardsSelfServiceProcSetPIN"
    title = "Set PIN"
    description = "Lets you choose the PIN of a card that you got without one, before you activate it."
    role = Role.SELF_SERVICE
    target = cards.in_states((CardState.ISSUED,), own=True)
    steps = (Step("information", "Information"), *UnblockChangePin.steps[1:])

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """A card whose PIN was told, and whose PUK wasn't, is activated by that PIN and no other way.

        Raises:
            InlayError: ``card_not_encoded``, ``card_pin_told``.
        """
        await super().check(tx, parties)
        told = await activation.told(tx, temporary_cards.card_of(parties))
        if told.pin and not told.puk:
            raise InlayError("card_pin_told")

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, the account, and who has the PUK.

        Raises:
            InlayError: ``card_description_unfit``.
        """
        card = temporary_cards.card_of(parties)
        told = (await activation.told(tx, card)).puk
        refused = not told and await puks.refused(tx, card)
        puk = "typed" if told or refused else "escrow"
        if puk == "escrow":
            self._see_that_it_may_be_typed_in_the_window(card)
        return {**await super().variables(tx, parties), "puk": puk, _REFUSED: refused}

    def _see_that_it_may_be_typed_in_the_window(self, card: Card) -> None:
        """A PIN that the portal's PUK sets comes from there, and from no reader.

        Raises:
            InlayError: ``card_description_unfit``.
        """
        setting = card_descriptions.pin_word(self._context, card, Part.UNBLOCK_PIN)
        if setting is not None and pin_entry.described(self._context, card, Part.UNBLOCK_PIN) == "pad":
            raise card_descriptions.unfit(card, problem("piv_portals_puk", setting.line, setting.word))

    def wanted(self, turn: Turn, card: Card) -> UnblockPin:
        """The order."""
        puk = turn.process.variables["puk"]
        return UnblockPin(
            **card_orders.named(card),
            pin_policy=PIN_POLICY,
            puk=puk,
            where=where_unblocked(turn.process) if puk == "typed" else "window",
        )

    def facts(self, process: Process) -> Mapping[str, str]:
        """Which card, by what, and what comes then."""
        known = process.variables
        by = _TYPED if known["puk"] == "typed" else "the portal tells it the card"
        by = _SAYS_NO if known.get(_REFUSED) else by
        label = cast("CoreObject", known["card"]).label
        if process.step in (self.steps[0].name, OPEN):
            return {"Card": label, "PUK": by}
        return {"Card": label, "Result": "The card has the PIN that you chose. Activate it now."}

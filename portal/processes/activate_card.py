"""``CardsProcActivate``: whoever has got a card says so, and can use it from then on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portal.model.graphs import Why
from portal.model.states import CardState, Role
from portal.processes import card_letters, cards, temporary_cards
from portal.processes.days import date_text
from portal.processes.definition import Definition, Step, finish
from portal.store import objects
from portal.store.transitions import StateChange, change_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process


class ActivateCard(Definition):
    """Issued to Active; the CA takes its certificates off hold."""

    name = "CardsProcActivate"
    title = "Activate card"
    description = "Says that you have got this card; its certificates are valid from then on."
    role = Role.SELF_SERVICE
    target = cards.in_states((CardState.ISSUED,), own=True)
    steps = (Step("information", "Information"), Step("done", "Done", settled=True))

    def __init__(self, context: Context) -> None:
        self._context = context

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """One active card at a time, where the option says so.

        Raises:
            InlayError: ``card_other_active``.
        """
        await cards.check_only_active(tx, temporary_cards.card_of(parties))

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, as it has to be in the person's hand."""
        card = temporary_cards.card_of(parties)
        return {"card": objects.describe(card), "serial": card.serial, "valid_until": card.valid_until}

    async def advance(self, turn: Turn) -> None:
        """Card, the CA's queue and audit log change together; what was to be printed isn't any more."""
        card, actor, now = (
            temporary_cards.card_of(turn.parties),
            turn.parties.user.email,
            self._context.clock(),
        )
        await change_state(turn.tx, card, CardState.ACTIVE, StateChange(actor, now, Why.ACTIVATED))
        await cards.release(turn.tx, card, actor, now)
        await card_letters.forget(turn.tx, card.id)
        finish(turn, "done")

    def facts(self, process: Process) -> Mapping[str, str]:
        """Which card: what is printed on it, and until when it is valid."""
        known = process.variables
        return {"Serial number": known["serial"], "Valid until": date_text(known["valid_until"])}

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing was done before the only *Next*."""
        return "Nothing was done yet. The card can't be used before it is activated."

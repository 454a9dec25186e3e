"""``CardsSelfServiceProcCheck``: the person sees whether card, PIN and certificate work: the card authenticates."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, cast

from portal.model.objects import CoreObject
from portal.model.states import ProcessState, Role
from portal.processes import card_orders, pin_entry
from portal.processes.card_process import CardProcess
from portal.processes.definition import BINDING
from portal.processes.endings import DETAILS
from portal.processes.operations.card_signing import SIGNATURE
from portal.store.tables import Card
from protocol.messages import Authenticate
from protocol.messages import Step as OrderStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process


class CheckCard(CardProcess):
    """Orders *authenticate* with a challenge of its own."""

    name = "CardsSelfServiceProcCheck"
    title = "Check card"
    description = "Shows whether this card works: it signs once, with its PIN, and the portal checks it."
    role = Role.SELF_SERVICE
    target = card_orders.USABLE
    progress = {  # noqa: RUF012  # read only
        OrderStep.CONSENT: ("Your consent", "Inlay's window says what will happen, and asks for the PIN."),
        OrderStep.BINDING: BINDING,
        OrderStep.CARD: (
            "Card",
            "A card for a reader: put it in. Inlay's window says where its PIN is typed.",
        ),
        OrderStep.PROVING: ("Check", "The card signs for this portal."),
        OrderStep.FINISHED: ("Done", "The portal has checked the card's signature."),
    }

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, the account, and where PINs are typed."""
        where = await pin_entry.variables(self._context, tx, cast(Card, parties.target))
        return {**await card_orders.variables(self._context, tx, parties), **where}

    def wanted(self, turn: Turn, card: Card) -> Authenticate:
        """The order."""
        return Authenticate(
            **card_orders.named(card),
            challenge=secrets.token_urlsafe(32),
            where=pin_entry.of(turn.process),
        )

    def facts(self, process: Process) -> Mapping[str, str]:
        """Which card, and what was found."""
        found = {"Card": cast(CoreObject, process.variables["card"]).label}
        if (signature := process.variables.get(SIGNATURE)) is not None:
            found["Result"] = "The card works: PIN, key and certificate are good."
            found["Certificate"] = f"serial number {signature['serial']}"
        return found

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing is changed in any case."""
        if process.state != ProcessState.RUNNING or process.step == DETAILS:
            return "This process is closed. The card is as it was."
        return "The card is as it was. The process is closed."

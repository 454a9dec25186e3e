"""``CardsProcActivate``: whoever has got a card shows that by its PIN, and can use it from then on."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final, cast

from portal.errors import WrongState
from portal.model.states import CardState, OrderState, ProcessState, Role
from portal.processes import activation, card_orders, cards, pin_entry, temporary_cards
from portal.processes.days import date_text
from portal.processes.definition import BINDING, OPEN, Definition, Step, finish
from portal.processes.endings import DETAILS
from protocol.messages import Authenticate
from protocol.messages import Step as OrderStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process


class ActivateCard(Definition):
    """Issued to Active, by an order *authenticate* where the option says so; the CA takes its certificates off hold."""

    name = "CardsProcActivate"
    title = "Activate card"
    description = "Shows that you have got this card and its PIN; its certificates are valid from then on."
    role = Role.SELF_SERVICE
    target = cards.in_states((CardState.ISSUED,), own=True)
    steps = (
        Step("information", "Information"),
        Step(OPEN, "Open Inlay"),
        Step(DETAILS, "Details", settled=True),
        Step("done", "Done", settled=True),
    )
    progress = {  # noqa: RUF012  # read only
        OrderStep.CONSENT: ("Your consent", "Inlay's window says what will happen."),
        OrderStep.BINDING: BINDING,
        OrderStep.CARD: ("Card", "Put the card in the reader, and type its PIN where Inlay's window says."),
        OrderStep.PROVING: ("Check", "The card signs for this portal."),
        OrderStep.FINISHED: ("Done", "The card is active."),
    }

    def __init__(self, context: Context) -> None:
        self._context = context

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """One active card at a time, where the option says so; and a PIN that its holder knows.

        Raises:
            InlayError: ``card_other_active``, ``card_without_authentication``.
        """
        card = temporary_cards.card_of(parties)
        await cards.check_only_active(tx, card)
        if (await cards.options(tx)).activation_proves:
            await activation.check_can_prove(tx, card)

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, as it has to be in the person's hand, and whether it has to prove itself."""
        card = temporary_cards.card_of(parties)
        told = await activation.told(tx, card)
        return {
            **await card_orders.variables(self._context, tx, parties),
            **await pin_entry.variables(self._context, tx, card),
            "serial": card.serial,
            "valid_until": card.valid_until,
            "pin_told": told.pin,
            "pin_mail": told.pin_mail,
            "pin_chosen": told.pin_chosen,
            activation.PROVES: (await cards.options(tx)).activation_proves,
        }

    async def advance(self, turn: Turn) -> None:
        """Make the order, whose receipt activates the card (``operations.authenticate``); without proof, do it now."""
        card, proves = temporary_cards.card_of(turn.parties), turn.process.variables[activation.PROVES]
        match turn.process.step:
            case "information" if proves:
                wanted = Authenticate(
                    **card_orders.named(card),
                    challenge=secrets.token_urlsafe(32),
                    where=pin_entry.of(turn.process),
                )
                await card_orders.order(self._context, turn, wanted)
            case "information":
                await activation.activate(self._context, turn.tx, card, turn.parties.user.email)
                finish(turn, "done")
            case "details":
                finish(turn, "done")
            case _:
                state = turn.order.state if turn.order else "missing"
                raise WrongState("order", state, (OrderState.FINISHED.value,))

    def facts(self, process: Process) -> Mapping[str, str]:
        """Which card: what is printed on it, until when it is valid, and which PIN is asked for."""
        known = process.variables
        found = {
            "Serial number": cast(str, known["serial"]),
            "Valid until": date_text(known["valid_until"]),
        }
        if process.step in (DETAILS, "done"):
            return found | {"Result": "The card is active."}
        if known[activation.PROVES]:
            found["PIN"] = _which_pin(known)
        return found

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing is done before the card has signed."""
        if process.state != ProcessState.RUNNING or process.step == DETAILS:
            return "This process is closed. The card is active."
        return "Nothing was done yet. The card can't be used before it is activated."


_TO_CHOOSE: Final = "Inlay asks for the one that you choose with Set PIN: do that first"
_MAILED: Final = {
    "sent": "Inlay asks for the one that a mail told you",
    "waiting": "Inlay asks for the one that a mail tells you: it is not sent yet, so wait for it",
    "failed": f"The mail with it was not sent. {_TO_CHOOSE}",
}


def _which_pin(known: Mapping[str, Any]) -> str:
    """Which PIN is asked for, by how it stood when the process was started."""
    if known.get("pin_chosen"):
        return "Inlay asks for the one that you have chosen with Set PIN"
    if (mail := known.get("pin_mail")) is not None:
        return _MAILED[mail]
    return "Inlay asks for the one that came with the card" if known["pin_told"] else _TO_CHOOSE

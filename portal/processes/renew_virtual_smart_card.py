"""The process *Renew*: new keys and certificates for authentication and signature on a card that is there.

The encryption key and its certificate stay: what was encrypted to it can still be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from portal import option_store
from portal.encoding import binding
from portal.errors import WrongState
from portal.model.objects import ObjectKind
from portal.model.options import fill
from portal.model.states import OrderState, ProcessState, Role, VirtualSmartCardState
from portal.model.virtual_card_options import NAME as OPTIONS
from portal.model.virtual_card_options import VirtualCardOptions
from portal.processes import card_certificates, encodings, tasks
from portal.processes.days import date_text
from portal.processes.definition import OPEN, Definition, Step, Target, finish, open_order
from portal.processes.endings import DETAILS
from portal.processes.get_virtual_smart_card import DONE, INFORMATION
from portal.store import objects
from portal.store.tables import Card
from protocol.errors import InlayError
from protocol.messages import EncodeCard, Purpose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.encoding.binding import Encoding
    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process

_RENEWED: Final = (Purpose.AUTHENTICATION, Purpose.SIGNATURE)


class RenewVirtualSmartCard(Definition):
    """``VirtualSmartCardProcRenew``."""

    name = "VirtualSmartCardProcRenew"
    title = "Renew"
    description = "Gives the card new keys and certificates to log in and sign; its encryption key stays."
    role = Role.SELF_SERVICE
    encoding: ClassVar[Encoding] = encodings.RENEW_VIRTUAL_SMART_CARD
    target = Target(
        frozenset({ObjectKind.VIRTUAL_SMART_CARD}), frozenset({VirtualSmartCardState.ACTIVE.value}), own=True
    )
    steps = (
        Step(INFORMATION, "Information"),
        Step(OPEN, "Open Inlay"),
        Step(DETAILS, "Details", settled=True),
        Step(DONE, "Done", settled=True),
    )

    def __init__(self, context: Context) -> None:
        self._context = context

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """There has to be something to renew."""
        if not await _renewed(tx, _card(parties)):
            raise InlayError("nothing_to_renew")

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, which of its certificates are renewed, and the options that say how."""
        card = _card(parties)
        saved = await option_store.current(tx, OPTIONS)
        options = VirtualCardOptions(saved.values)
        known = {
            "email": parties.subject.email,
            "name": parties.subject.name,
            "portal": self._context.portal,
        }
        renewed = await _renewed(tx, card)
        found: dict[str, Any] = {
            tasks.CARD: objects.describe(card),
            "options": saved.values,
            "options_version": saved.version,
            "user_id": fill(options.template("UserId"), known),
            "valid_until": self._context.clock() + options.validity_seconds,
        }
        for purpose in _RENEWED:
            found[f"with_{purpose.value}"] = purpose in renewed
            found[f"{purpose.value}_algorithm"] = options.algorithm(purpose).value
        return found

    async def advance(self, turn: Turn) -> None:
        """Move on; from *open* the order itself moves the process."""
        process, order = turn.process, turn.order
        match process.step:
            case "information":
                options = VirtualCardOptions(cast("dict[str, Any]", process.variables["options"]))
                plan = binding.plan(self.encoding, process.variables)
                card, user = _card(turn.parties), turn.parties.user
                operation = EncodeCard(
                    card=card.id,
                    driver="virtual",
                    guid=card.guid,
                    label=card.label,
                    valid_until=process.variables["valid_until"],
                    pin=encodings.pin_entry(plan, options.pin_policy if plan.set_pin else None),
                    keys=encodings.key_orders(plan, user.name, process.variables["user_id"]),
                    steps=encodings.card_steps(plan),
                )
                now = self._context.clock()
                open_order(turn, operation, task=plan, resume_within=options.resume_within, now=now)
            case "details":
                finish(turn, DONE)
            case _:
                raise WrongState("order", order.state if order else "missing", (OrderState.FINISHED.value,))

    def can_next(self, process: Process, order: Order | None) -> bool:
        """At information and details."""
        return process.state == ProcessState.RUNNING and process.step in (INFORMATION, DETAILS)

    def facts(self, process: Process) -> Mapping[str, str]:
        """What will be renewed, or was."""
        names = [item.value for item in _RENEWED if process.variables[f"with_{item.value}"]]
        return {
            "Account": process.variables["user_id"],
            "New certificates": ", ".join(names),
            "Valid until": date_text(process.variables["valid_until"]),
            "Old certificates": "revoked as soon as the new ones are proved",
            "Encryption key": "stays as it is, with its certificate",
            "PIN": "stays as it is; you are asked for it",
        }

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """What Cancel does at this step."""
        if process.step == DETAILS:
            return "This process is closed. The card stays as it is: renewed."
        if order is None or order.state == OrderState.WAITING:
            return "Nothing was changed yet. The process is closed."
        return "The card stays as it was. Certificates that were issued for its new keys are revoked."


def _card(parties: Parties) -> Card:
    if not isinstance(parties.target, Card):
        raise InlayError("internal")
    return parties.target


async def _renewed(tx: AsyncSession, card: Card) -> set[Purpose]:
    """What the card has certificates for, or had, that are renewed."""
    had = {item.profile for item in await card_certificates.related(tx, card)}
    return {purpose for purpose in _RENEWED if purpose.value in had}

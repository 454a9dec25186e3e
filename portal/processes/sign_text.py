"""``CardsSelfServiceProcSign``: the person signs a text with the signature key of their card."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, cast

from portal.model.objects import CoreObject
from portal.model.options import Form, Option
from portal.model.states import ProcessState, Role
from portal.processes import card_orders, pin_entry
from portal.processes.card_process import CardProcess
from portal.processes.definition import BINDING, OPEN, Step
from portal.processes.endings import DETAILS
from portal.processes.operations.card_signing import SIGNATURE
from portal.store.tables import Card
from protocol.messages import Sign
from protocol.messages import Step as OrderStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process

TEXT: Final = Option(
    "Text",
    "Text",
    "What you sign. Inlay's window shows its beginning, and the fingerprint of all of it.",
    "text",
    "",
    low=1,
    high=500,
)
_SHOWN: Final = 100


class SignText(CardProcess):
    """Orders *sign* for the SHA-256 of the text in UTF-8."""

    name = "CardsSelfServiceProcSign"
    title = "Sign"
    description = "Signs a text with this card, so that others can see that it comes from you."
    role = Role.SELF_SERVICE
    target = card_orders.USABLE
    steps = (
        Step("text", "Text", Form((TEXT,))),
        Step(OPEN, "Open Inlay"),
        Step(DETAILS, "Details", settled=True),
        Step("done", "Done", settled=True),
    )
    progress = {  # noqa: RUF012  # read only
        OrderStep.CONSENT: (
            "Your consent",
            "Inlay's window shows what you sign, and asks for the card's PIN.",
        ),
        OrderStep.BINDING: BINDING,
        OrderStep.CARD: (
            "Card",
            "A card for a reader: put it in. Inlay's window says where its PIN is typed.",
        ),
        OrderStep.PROVING: ("Signature", "The card signs."),
        OrderStep.FINISHED: ("Done", "The portal has checked the signature."),
    }

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, the account, and where PINs are typed."""
        where = await pin_entry.variables(self._context, tx, cast(Card, parties.target))
        return {**await card_orders.variables(self._context, tx, parties), **where}

    def wanted(self, turn: Turn, card: Card) -> Sign:
        """The order."""
        text = cast(str, turn.values[TEXT.name])
        return Sign(
            **card_orders.named(card),
            document=text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…",
            digest=hashlib.sha256(text.encode()).digest(),
            where=pin_entry.of(turn.process),
        )

    def facts(self, process: Process) -> Mapping[str, str]:
        """Which card, what was signed, and the signature."""
        found = {"Card": cast(CoreObject, process.variables["card"]).label}
        if (text := process.variables.get(TEXT.name)) is not None:
            found["Text"] = text
        if (signature := process.variables.get(SIGNATURE)) is not None:
            found["Signature"] = f"{signature['algorithm']} {signature['signature']}"
            found["Certificate"] = f"serial number {signature['serial']}"
        return found

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """A signature can't be taken back, but is only kept when the order has won."""
        if process.state != ProcessState.RUNNING or process.step == DETAILS:
            return "This process is closed. What was signed stays signed."
        return "Nothing is signed. The process is closed."

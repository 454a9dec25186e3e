"""``TempCardsProcRequest``: an operator enters a temporary card that is to be made ready."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, cast

from sqlalchemy import select

from portal.errors import FieldErrors
from portal.model import states
from portal.model.objects import ObjectKind
from portal.model.options import Form, Option
from portal.model.states import Role, TemporaryCardState
from portal.processes.definition import Definition, Step, finish
from portal.store import audit, objects
from portal.store.tables import Card

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portal.model.objects import CoreObject
    from portal.processes.context import Context
    from portal.processes.definition import Turn
    from portal.store.tables import Order, Process

_LABEL: Final = Option(
    "Label",
    "Name of the card",
    "What staff call it: what is printed on it, say.",
    "text",
    "",
    low=1,
    high=100,
)
_SERIAL: Final = Option(
    "Serial",
    "Serial number",
    "As it stands on the card: digits and the letters A to F.",
    "text",
    "",
    low=1,
    high=40,
)


class RequestTemporaryCard(Definition):
    """Makes the card object, Requested; it is with the operator who entered it until somebody gets it."""

    name = "TempCardsProcRequest"
    title = "Request temporary card"
    description = "Enters a card that people get for a while when theirs isn't at hand."
    role = Role.OPERATOR
    steps = (Step("card", "Card", Form((_LABEL, _SERIAL))), Step("done", "Done", settled=True))

    def __init__(self, context: Context) -> None:
        self._context = context

    async def advance(self, turn: Turn) -> None:
        """Store the card.

        Raises:
            FieldErrors: the serial number is none, or another temporary card that is in use has it.
        """
        serial = cast(str, turn.values[_SERIAL.name]).replace(" ", "").lower()
        if not set(serial) <= set("0123456789abcdef"):
            raise FieldErrors({_SERIAL.name: "Only digits and the letters A to F are possible."})
        kind, final = ObjectKind.TEMPORARY_CARD.value, states.TEMPORARY_CARD.final
        same = select(Card.label).where(Card.kind == kind, Card.serial == serial, Card.state.not_in(final))
        if (other := (await turn.tx.scalars(same.limit(1))).first()) is not None:
            raise FieldErrors({_SERIAL.name: f"The card {other} has this serial number."})
        now, actor = self._context.clock(), turn.parties.user
        card = Card(
            id=secrets.token_hex(16),
            kind=kind,
            owner_id=actor.id,
            label=cast(str, turn.values[_LABEL.name]),
            serial=serial,
            guid=secrets.token_hex(16),  # what its first encoding writes on it
            state=TemporaryCardState.REQUESTED.value,
            storage="card",
            attested=False,
            valid_until=now,
            created_at=now,
            changed_at=now,
        )
        turn.tx.add(card)
        await turn.tx.flush()
        turn.process.variables["card"] = objects.describe(card)
        await audit.record(
            turn.tx,
            at=now,
            actor=actor.email,
            action="card.registered",
            kind=kind,
            object_id=card.id,
            serial=serial,
        )
        finish(turn, "done")

    def facts(self, process: Process) -> Mapping[str, str]:
        """The card, once it is stored."""
        card = process.variables.get("card")
        return {} if card is None else {"Card": cast("CoreObject", card).label, "State": "Requested"}

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing was done before the only *Next*."""
        return "Nothing was stored."

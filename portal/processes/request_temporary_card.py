"""``TempCardsProcRequest``: an operator enters a temporary card that is to be made ready."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, cast

from portal.encoding.piv_rules import Part
from portal.errors import FieldErrors
from portal.model.objects import ObjectKind
from portal.model.options import Form, Option
from portal.model.states import Role, TemporaryCardState
from portal.processes import card_descriptions, card_serials
from portal.processes.card_descriptions import BUILT_IN, CHOICE
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
    "As it stands on the card: digits and the letters A to F. Of a card that is made through PKCS#11: as its module "
    "tells it.",
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

    def __init__(self, context: Context) -> None:
        self._context = context
        kinds = [name for name, item in context.descriptions.items() if item.makes(Part.ENCODE)]
        form = Form((_LABEL, _SERIAL, *card_descriptions.option(kinds)))
        self.steps = (Step("card", "Card", form), Step("done", "Done", settled=True))

    async def advance(self, turn: Turn) -> None:
        """Store the card.

        Raises:
            FieldErrors: the serial number is none, or another card that is in use has it.
        """
        kind, chosen = ObjectKind.TEMPORARY_CARD.value, cast(str, turn.values.get(CHOICE, BUILT_IN))
        serial = await self._free_serial(turn, driver=card_descriptions.driver_of(self._context, chosen))
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
        card_descriptions.assign(self._context, card, chosen)
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

    async def _free_serial(self, turn: Turn, *, driver: str) -> str:
        """The serial number that was typed, which no other card has."""
        typed = cast(str, turn.values[_SERIAL.name])
        serial = card_serials.typed(typed, driver, _SERIAL.name)
        if (other := await card_serials.taken_before(turn.tx, serial, driver)) is not None:
            raise FieldErrors({_SERIAL.name: f"The card {other} has this serial number."})
        return serial

    def facts(self, process: Process) -> Mapping[str, str]:
        """The card, once it is stored."""
        card = process.variables.get("card")
        return {} if card is None else {"Card": cast("CoreObject", card).label, "State": "Requested"}

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing was done before the only *Next*."""
        return "Nothing was stored."

"""``TempCardsProcAssign``: an operator gives a temporary card to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import select

from portal.errors import FieldErrors
from portal.events import DEADLINES, EXPIRY_MAILS
from portal.model.graphs import Why
from portal.model.options import Form, Option
from portal.model.states import Role, TemporaryCardState, UserState
from portal.processes import temporary_cards
from portal.processes.definition import Definition, Step, finish
from portal.store import objects
from portal.store.database import notify
from portal.store.tables import User
from portal.store.transitions import StateChange, change_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process

_PERSON: Final = Option(
    "Person", "Person", "E-mail address of who gets the card.", "text", "", low=3, high=254
)
_FIRST: Final = {
    TemporaryCardState.ASSIGNED.value: "This person has the temporary card {}: withdraw that first.",
    TemporaryCardState.FAILED.value: "This person has the temporary card {}, which is half done: take that back with "
    "Issue or lock it first, or finish it with Extend instead of assigning another.",
}
"""State of the temporary card that a person has already to what has to be done with it."""


class AssignTemporaryCard(Definition):
    """Unassigned to Assigned, from now on for as long as the option says."""

    name = "TempCardsProcAssign"
    title = "Assign"
    description = "Gives the card to a person for a while."
    role = Role.OPERATOR
    of_holder = False  # staff have it, whoever of them
    target = temporary_cards.in_states((TemporaryCardState.UNASSIGNED,))
    steps = (Step("person", "Person", Form((_PERSON,))), Step("done", "Done", settled=True))

    def __init__(self, context: Context) -> None:
        self._context = context

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The card, and the options: one for each person, and for how long."""
        options = await temporary_cards.options(tx)
        known = await temporary_cards.described(tx, parties)
        return {**known, "validity": options.validity, "one_per_person": options.one_per_person}

    async def advance(self, turn: Turn) -> None:
        """It is the person's.

        Raises:
            FieldErrors: nobody has this address, the account is locked, or the person has a temporary card.
        """
        person = await self._person(turn)
        now, card = self._context.clock(), temporary_cards.card_of(turn.parties)
        card.owner_id = person.id
        card.valid_until = now + cast(int, turn.process.variables["validity"])
        turn.process.variables["person"] = objects.describe(person)
        change = StateChange(turn.parties.user.email, now, Why.ASSIGNED)
        await change_state(
            turn.tx,
            card,
            TemporaryCardState.ASSIGNED,
            change,
            holder=person.email,
            valid_until=card.valid_until,
        )
        notify(turn.tx, DEADLINES, EXPIRY_MAILS)
        finish(turn, "done")

    async def _person(self, turn: Turn) -> User:
        """The person, locked: of two cards assigned at once the second one finds the first."""
        email = cast(str, turn.values[_PERSON.name]).lower()
        query = select(User).where(User.email == email).with_for_update()
        person = (await turn.tx.execute(query.execution_options(populate_existing=True))).scalar_one_or_none()
        if person is None:
            raise FieldErrors({_PERSON.name: "There is no account of this e-mail address."})
        if person.state != UserState.ACTIVE:
            raise FieldErrors({_PERSON.name: f"This account is {person.state}. It would have to be active."})
        if turn.process.variables["one_per_person"]:
            card = temporary_cards.card_of(turn.parties)
            if (other := await temporary_cards.other_of(turn.tx, person.id, card)) is not None:
                raise FieldErrors({_PERSON.name: _FIRST[other.state].format(other.label)})
        return person

    def facts(self, process: Process) -> Mapping[str, str]:
        """For how long, and whose it is now."""
        days = cast(int, process.variables["validity"]) // temporary_cards.DAY
        found = {"Validity": f"{days} days"}
        if (person := process.variables.get("person")) is not None:
            found["Holder"] = person.label
        return found

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing was done before the only *Next*."""
        return "Nothing was done yet. The card stays as it is."

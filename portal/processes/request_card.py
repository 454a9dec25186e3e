"""``CardsProcRequest``: an operator asks for a card for a person, and an approver, who is another person, decides."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from portal.encoding.piv_rules import Part
from portal.errors import SecondPerson
from portal.model import states
from portal.model.graphs import Why
from portal.model.objects import CoreObject, ObjectKind
from portal.model.options import Form, Option
from portal.model.states import CardState, Role, UserState
from portal.processes import card_descriptions
from portal.processes.card_descriptions import BUILT_IN, CHOICE
from portal.processes.definition import Definition, Step, Target, finish, go, refuse
from portal.store import audit, objects
from portal.store.tables import Card
from portal.store.transitions import StateChange, change_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process

_LABEL: Final = Option(
    "Label", "Name of the card", "What staff and its holder call it.", "text", "Card", low=1, high=100
)
_REASON: Final = Option(
    "Reason",
    "Reason",
    "Why the person needs a card; the approver reads it.",
    "text",
    "",
    low=3,
    high=200,
)
_DECISION: Final = Option(
    "Decision",
    "Decision",
    "Whether this person gets the card.",
    "choice",
    "approve",
    choices=("approve", "reject"),
    captions={"approve": "Approve the card", "reject": "Reject the card"},
)

_DECIDED: Final = {"approve": "approved", "reject": "rejected"}


class RequestCard(Definition):
    """Registered > Requested; then Approved or Rejected by somebody else, or Aborted by who asked."""

    name = "CardsProcRequest"
    title = "Request card"
    description = "Asks for a card for this person; somebody else approves it, and then it can be issued."
    role = Role.OPERATOR
    subject_states: ClassVar[frozenset[UserState]] = frozenset({UserState.ACTIVE})
    target = Target(frozenset({ObjectKind.USER}), frozenset({UserState.ACTIVE.value}))

    def __init__(self, context: Context) -> None:
        self._context = context
        kinds = [name for name, item in context.descriptions.items() if item.makes(Part.ISSUE)]
        self.steps = (
            Step("card", "Card", Form((_LABEL, _REASON, *card_descriptions.option(kinds)))),
            Step("agree", "Approval", Form((_DECISION,)), role=Role.APPROVER, other_person=True),
            Step("done", "Done", settled=True),
        )

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """For whom."""
        return {"person": parties.subject.email}

    async def advance(self, turn: Turn) -> None:
        """Ask, then decide.

        Raises:
            SecondPerson: nobody approves a card of their own.
        """
        if turn.process.step == "card":
            await self._ask(turn)
            go(turn, "agree")
            return
        if turn.parties.user.id == turn.parties.subject.id:
            raise SecondPerson
        approved = turn.values[_DECISION.name] == "approve"
        actor = turn.parties.user.email
        if approved:
            await self._move(turn.tx, turn.process, CardState.APPROVED, Why.APPROVED, actor)
            finish(turn, "done")
        else:
            await self._move(turn.tx, turn.process, CardState.REJECTED, Why.REJECTED, actor)
            refuse(turn)

    async def cancelled(self, tx: AsyncSession, process: Process, actor: str) -> None:
        """A card that was asked for is Aborted; before that there is none."""
        if process.step == "agree":
            await self._move(tx, process, CardState.ABORTED, Why.ABORTED, actor)

    def facts(self, process: Process) -> Mapping[str, str]:
        """For whom, what and why."""
        known = process.variables
        found = {"Person": cast(str, known["person"])}
        names = (
            ("Name of the card", _LABEL.name),
            ("Kind of card", CHOICE),
            ("Reason", _REASON.name),
        )
        found |= {label: cast(str, known[name]) for label, name in names if name in known}
        if _DECISION.name in known:
            found["Decision"] = _DECIDED[cast(str, known[_DECISION.name])]
        return found

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """What Cancel does at this step."""
        match process.step:
            case "card":
                return "Nothing was asked for yet. The process is closed."
            case "agree":
                return "The request is withdrawn: the card is Aborted."
            case _:
                return "This process is closed. What was decided stays."

    async def _ask(self, turn: Turn) -> None:
        now, actor = self._context.clock(), turn.parties.user.email
        card = Card(
            id=secrets.token_hex(16),
            kind=ObjectKind.CARD.value,
            owner_id=turn.parties.subject.id,
            label=cast(str, turn.values[_LABEL.name]),
            serial="",  # known when a card is in hand
            guid=secrets.token_hex(16),  # what its encoding writes on it
            state=states.CARD.start.value,
            storage="card",
            attested=False,
            valid_until=now,
            created_at=now,
            changed_at=now,
        )
        card_descriptions.assign(self._context, card, cast(str, turn.values.get(CHOICE, BUILT_IN)))
        turn.tx.add(card)
        await turn.tx.flush()
        turn.process.variables["card"] = objects.describe(card)
        await audit.record(
            turn.tx, at=now, actor=actor, action="card.registered", kind=card.kind, object_id=card.id
        )
        note = cast(str, turn.values[_REASON.name])
        change = StateChange(actor, now, Why.REQUESTED, note)
        await change_state(turn.tx, card, CardState.REQUESTED, change, holder=turn.parties.subject.email)

    async def _move(self, tx: AsyncSession, process: Process, state: CardState, why: Why, actor: str) -> None:
        named = cast(CoreObject, process.variables["card"])
        card = await tx.get_one(Card, named.id, with_for_update=True, populate_existing=True)
        change = StateChange(actor, self._context.clock(), why)
        await change_state(tx, card, state, change, process=process.id)

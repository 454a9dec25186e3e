"""Small processes that use all the engine offers, for its tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portal.errors import FieldErrors, SwitchedOff, WrongState
from portal.model import states
from portal.model.objects import ObjectKind
from portal.model.options import Form, Option
from portal.model.states import Role, UserState, VirtualSmartCardState
from portal.processes.definition import Definition, Step, Target, finish, go, refuse
from portal.store import objects
from portal.store.tables import Card

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.definition import Parties, Turn

_USABLE = frozenset({VirtualSmartCardState.ACTIVE.value, VirtualSmartCardState.INACTIVE.value})
_CARD = frozenset({ObjectKind.VIRTUAL_SMART_CARD})
REASON = Option("Reason", "Reason", "Why.", "text", "", low=3, high=20)
DAYS = Option("Days", "Days", "How many.", "int", 7, low=1, high=9, unit="days")
DECISION = Option(
    "Decision", "Decision", "Whether you agree.", "choice", "agree", choices=("agree", "refuse")
)


class LockCard(Definition):
    """An operator locks somebody's card, with a reason."""

    name = "SampleLock"
    title = "Lock"
    description = "Locks a card."
    role = Role.OPERATOR
    target = Target(_CARD, _USABLE)
    steps = (
        Step("ask", "Ask", Form((REASON, DAYS))),
        Step("sure", "Sure"),
        Step("done", "Done", settled=True),
    )

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        assert parties.target is not None
        return {"card": objects.describe(parties.target)}

    async def advance(self, turn: Turn) -> None:
        match turn.process.step:
            case "ask":
                if turn.values["Reason"] == "because":
                    raise FieldErrors({"Reason": "That is no reason."})
                go(turn, "sure")
            case "sure":
                card = turn.parties.target
                assert isinstance(card, Card)
                card.state = states.VIRTUAL_SMART_CARD.check(
                    VirtualSmartCardState(card.state), VirtualSmartCardState.LOCKED
                )
                go(turn, "done")
            case _:
                finish(turn, "done")


class OwnCard(Definition):
    """A person does something with an own active card; can be switched off."""

    name = "SampleOwn"
    title = "Own"
    description = "Works on an own card."
    role = Role.SELF_SERVICE
    target = Target(_CARD, frozenset({VirtualSmartCardState.ACTIVE.value}), own=True)
    steps = (Step("ask", "Ask"), Step("done", "Done", settled=True))
    switched_off = False

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        if self.switched_off:
            raise SwitchedOff("SampleScriptOptions", "Own")

    async def advance(self, turn: Turn) -> None:
        finish(turn, "done")


class TwoPersons(Definition):
    """An operator asks, an approver agrees, the operator has it done; the person it is about must be active."""

    name = "SampleTwo"
    title = "Two persons"
    description = "Needs two persons."
    role = Role.OPERATOR
    subject_states = frozenset({UserState.ACTIVE})
    target = Target(frozenset({ObjectKind.CERTIFICATE}), frozenset({"Valid", "Revoked"}))
    steps = (
        Step("ask", "Ask", Form((REASON,))),
        Step("agree", "Agree", Form((DECISION,)), role=Role.APPROVER, other_person=True),
        Step("do", "Do"),
        Step("done", "Done", settled=True),
    )

    async def advance(self, turn: Turn) -> None:
        match turn.process.step:
            case "ask":
                go(turn, "agree")
            case "agree" if turn.values["Decision"] == "agree":
                go(turn, "do")
            case "agree":
                refuse(turn)
            case "do":
                finish(turn, "done")
            case step:
                raise WrongState("process", step, ("do",))

"""The process *Recover archived keys*: an operator asks, an approver agrees, and one order may have the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import select

from portal import option_store
from portal.errors import NotFound, SecondPerson
from portal.model import archive_options
from portal.model.objects import ObjectKind
from portal.model.options import Form, Option
from portal.model.states import Role, UserState
from portal.processes.definition import Definition, Step, Target, fail, finish, go, refuse
from portal.store import audit
from portal.store.tables import ArchivedKey, RecoveryPermit
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process

_REASON = Option(
    "Reason", "Reason", "Why the keys are needed again; kept in the audit log.", "text", "", low=3, high=150
)
_DECISION = Option(
    "Decision",
    "Decision",
    "Whether the keys may go on to another card of this person.",
    "choice",
    "agree",
    choices=("agree", "refuse"),
    captions={
        "agree": "Agree: they may, once",
        "refuse": "Refuse: they may not",
    },
)


class ArchiveRecovery(Definition):
    """``KeyArchiveProcRecover``."""

    name = "KeyArchiveProcRecover"
    title = "Recover archived keys"
    description = "Lets this person's encryption keys go from the archive on to another card, once."
    role = Role.OPERATOR
    subject_states: ClassVar[frozenset[UserState]] = frozenset({UserState.ACTIVE})
    target = Target(frozenset({ObjectKind.USER}), frozenset({UserState.ACTIVE.value}))
    steps = (
        Step("reason", "Reason", Form((_REASON,))),
        Step("agree", "Agreement", Form((_DECISION,)), role=Role.APPROVER, other_person=True),
        Step("done", "Done", settled=True),
    )

    def __init__(self, context: Context) -> None:
        self._context = context

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """There must be a key. What options need an agreement when it is used, may change until then."""
        keys = select(ArchivedKey.id).where(ArchivedKey.owner_id == parties.subject.id).limit(1)
        if (await tx.execute(keys)).first() is None:
            raise NotFound(ObjectKind.ARCHIVED_KEY)

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """Until when the request can be agreed to."""
        saved = await option_store.current(tx, archive_options.NAME)
        lives = archive_options.seconds(saved.values)
        return {"lives": lives, "expires_at": self._context.clock() + lives, "person": parties.subject.email}

    async def advance(self, turn: Turn) -> None:
        """The approver's word makes the permit."""
        match turn.process.step:
            case "reason":
                go(turn, "agree")
            case _ if turn.parties.user.id == turn.parties.subject.id:
                raise SecondPerson  # nobody agrees to the recovery of their own keys
            case _ if turn.values[_DECISION.name] != "agree":
                await self._note(turn, "archived_key.recovery_refused")
                refuse(turn)
            case _ if self._context.clock() > turn.process.variables["expires_at"]:
                await self._note(turn, "archived_key.recovery_expired")
                fail(turn, InlayError("recovery_request_expired"))
            case _:
                await self._permit(turn)
                finish(turn, "done")

    def facts(self, process: Process) -> Mapping[str, str]:
        """For whom, and why."""
        return {"Person": process.variables["person"], "Reason": str(process.variables.get("Reason", ""))}

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """Nothing was let out yet."""
        return "The request is withdrawn. No key leaves the archive for it."

    async def _permit(self, turn: Turn) -> None:
        now = self._context.clock()
        turn.tx.add(
            RecoveryPermit(
                process_id=turn.process.id,
                owner_id=turn.parties.subject.id,
                asked_by=turn.process.user_id,
                approved_by=turn.parties.user.id,
                created_at=now,
                expires_at=now + turn.process.variables["lives"],
            )
        )
        await self._note(turn, "archived_key.recovery_approved")

    async def _note(self, turn: Turn, action: str) -> None:
        await audit.record(
            turn.tx,
            at=self._context.clock(),
            actor=turn.parties.user.email,
            action=action,
            kind="user",
            object_id=turn.parties.subject.id,
            process=turn.process.id,
            asked_by=turn.process.user_id,
            reason=str(turn.process.variables["Reason"]),
        )

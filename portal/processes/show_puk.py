"""``VirtualSmartCardProcShowPUKForOperator``: an operator gets a card's PUK, once, to hand it to the card's owner.

The PUK is no process variable and is on no page but the answer to the *Next* that asks for it. That it was asked for,
by whom and why, is in the audit log before it is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from portal.model.objects import CoreObject, ObjectKind
from portal.model.options import Form, Option
from portal.model.states import Role, VirtualSmartCardState
from portal.processes import tasks
from portal.processes.definition import Definition, Step, Target, finish, go
from portal.store import audit, objects
from portal.store.tables import Card, Process
from portal.views import Secret
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order

REASON: Final = Option(
    "Reason",
    "Reason",
    "Why the PUK is needed, and how you know that its owner asks for it. It stays in the card's history.",
    "text",
    "",
    low=3,
    high=200,
)
_PUK: Final = "puk"
_SHOWN: Final = "shown"


class ShowPuk(Definition):
    """Asks for a reason, then shows the PUK in one answer and never again; each process shows it once."""

    name = "VirtualSmartCardProcShowPUKForOperator"
    title = "Show PUK"
    description = "Shows the PUK of this card once, to tell it to its owner, who unblocks the card with it."
    role = Role.OPERATOR
    target = Target(
        frozenset({ObjectKind.VIRTUAL_SMART_CARD}),
        frozenset({VirtualSmartCardState.ACTIVE.value, VirtualSmartCardState.INACTIVE.value}),
    )
    steps = (
        Step("reason", "Reason", Form((REASON,))),
        Step(_PUK, "PUK", settled=True),
        Step("done", "Done", settled=True),
    )

    def __init__(self, context: Context) -> None:
        self._context = context

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """The portal must have it.

        Raises:
            InlayError: ``puk_not_kept``.
        """
        if cast(Card, parties.target).sealed_puk is None:
            raise InlayError("puk_not_kept")

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """Which card."""
        return {"card": objects.describe(cast(Card, parties.target)), _SHOWN: False}

    async def advance(self, turn: Turn) -> None:
        """On to the step at which it is shown, and on from there."""
        if turn.process.step == _PUK:
            finish(turn, "done")
        else:
            go(turn, _PUK)

    async def reveal(self, tx: AsyncSession, process: Process, actor: str) -> Secret | None:
        """The PUK, the first time that it is asked for at its step; that it was is in the audit log then."""
        if process.step != _PUK or process.variables[_SHOWN]:
            return None
        card = await tx.get_one(Card, cast(CoreObject, process.variables["card"]).id)
        if card.sealed_puk is None:
            return None
        process.variables[_SHOWN] = True
        await audit.record(
            tx,
            at=self._context.clock(),
            actor=actor,
            action="card.puk_shown",
            kind=objects.kind_of(card).value,
            object_id=card.id,
            process=process.id,
            note=cast(str, process.variables[REASON.name]),
        )
        puk = self._context.keys.unseal(card.sealed_puk, tasks.puk_label(card.id))
        try:
            return Secret("PUK", puk.decode("ascii"))
        finally:
            puk[:] = bytes(len(puk))

    def facts(self, process: Process) -> Mapping[str, str]:
        """Which card, why, and whether the PUK was shown."""
        facts = {"Card": cast(CoreObject, process.variables["card"]).label}
        if reason := process.variables.get(REASON.name):
            facts["Reason"] = cast(str, reason)
        if process.variables[_SHOWN]:
            facts["PUK"] = "was shown, once"
        return facts

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """What was seen was seen."""
        if process.variables[_SHOWN]:
            return "This process is closed. The PUK was shown."
        return "Nothing was shown yet. The process is closed."

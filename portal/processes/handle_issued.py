"""The process *Revoke a certificate left in Issued*: an operator has it revoked, with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.ca.authority import REVOKING, Reason
from portal.errors import WrongState
from portal.model.objects import ObjectKind
from portal.model.options import Form, Option
from portal.model.states import OrderState, Role
from portal.processes import ca_changes
from portal.processes.ca_changes import Change
from portal.processes.definition import Definition, Step, Target, finish
from portal.store.tables import Certificate, Order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Process

_REASON = Option(
    "Reason",
    "Reason",
    "What the revocation list says.",
    "choice",
    Reason.CESSATION_OF_OPERATION.value,
    choices=tuple(reason.value for reason in Reason if reason in REVOKING),
    captions={
        Reason.UNSPECIFIED: "Unspecified",
        Reason.KEY_COMPROMISE: "Key compromise",
        Reason.CA_COMPROMISE: "CA compromise",
        Reason.AFFILIATION_CHANGED: "Affiliation changed",
        Reason.SUPERSEDED: "Superseded",
        Reason.CESSATION_OF_OPERATION: "Cessation of operation",
        Reason.PRIVILEGE_WITHDRAWN: "Privilege withdrawn",
        Reason.AA_COMPROMISE: "AA compromise",
    },
)
_NOTE = Option("Note", "Note", "What you found out; kept with the process.", "text", "", low=0, high=150)
_MAY_STILL_END = frozenset({OrderState.WAITING, OrderState.RUNNING, OrderState.FINISHING})


class HandleIssued(Definition):
    """``CertificateProcHandleIssued``."""

    name = "CertificateProcHandleIssued"
    title = "Revoke (left in Issued)"
    description = "Has a certificate revoked that the CA issued and that no card has proved."
    role = Role.OPERATOR
    steps = (
        Step("reason", "Reason", Form((_REASON, _NOTE))),
        Step("done", "Done", settled=True),
    )

    def __init__(self, context: Context) -> None:
        self._context = context
        issued = context.database.model.certificates.issued
        self.target = Target(frozenset({ObjectKind.CERTIFICATE}), frozenset({issued}))

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """Its order must have ended: one that is carried out may still prove it, and is cancelled otherwise."""
        certificate = parties.target
        if isinstance(certificate, Certificate) and certificate.order_jti is not None:
            order = await tx.get_one(Order, certificate.order_jti)
            if order.state in _MAY_STILL_END:
                ended = set(OrderState) - _MAY_STILL_END
                raise WrongState("order", order.state, (state.value for state in ended))

    async def advance(self, turn: Turn) -> None:
        """Into the queue: it is shown as Revoked once the CA has confirmed it."""
        certificate = turn.parties.target
        if isinstance(certificate, Certificate):
            await ca_changes.ask(
                turn.tx,
                certificate,
                Change.REVOKE,
                turn.parties.user.email,
                self._context.clock(),
                Reason(str(turn.values[_REASON.name])),
            )
        finish(turn, "done")

    def facts(self, process: Process) -> Mapping[str, str]:
        """What became of it."""
        known = {name: str(process.variables.get(name, "")) for name in (_REASON.name, _NOTE.name)}
        known[_REASON.name] = _REASON.caption(known[_REASON.name])
        return {name: value for name, value in known.items() if value}

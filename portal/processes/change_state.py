"""*Change State* and *Change State in CA*: what processes do with the objects that their variables hold.

*Change State* acts in the portal alone, at once: what the CA says of a certificate stays. *Change State in CA* asks the
CA, and the portal shows the new state once the CA has confirmed it (``ca_changes``): until then the change is pending.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from portal.ca.authority import Reason
from portal.errors import WrongState
from portal.model.graphs import Why
from portal.model.objects import CoreObject
from portal.model.states import CertificateState
from portal.processes import ca_changes
from portal.processes.ca_changes import Change
from portal.store import objects
from portal.store.database import model_of
from portal.store.tables import Card, Certificate
from portal.store.transitions import StateChange, change_state
from protocol.errors import InlayError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.definition import Turn


@dataclass(frozen=True, slots=True)
class ChangeState:
    """Change the state of cards or certificates in the portal.

    Attributes:
        variable: the process variable that holds a descriptor, or a list of them; nothing is passed over.
        state: the state they are to be in.
        why: the reason, for the audit log.
    """

    variable: str
    state: str
    why: Why = Why.CHANGE_STATE

    async def run(self, turn: Turn, now: int) -> None:
        """Do it, in the turn's transaction.

        Raises:
            WrongState: an object's graph has no such transition; nothing is changed then.
            InlayError: ``descriptor_invalid``: the variable holds something else.
        """
        for item in _held(turn, self.variable):
            row = await objects.find(turn.tx, item.kind, item.id, lock=True)
            if not isinstance(row, Card | Certificate):
                raise InlayError("descriptor_invalid")
            change = StateChange(turn.parties.user.email, now, self.why)
            await change_state(turn.tx, row, self.state, change)


@dataclass(frozen=True, slots=True)
class ChangeStateInCa:
    """Change the state of certificates in the CA, and in the portal once it has confirmed.

    Attributes:
        variable: the process variable that holds a descriptor, or a list of them; nothing is passed over.
        state: *On Hold*, *Revoked*, or the start state of the certificate's graph: then it is taken off hold.
        reason: of a revocation.
    """

    variable: str
    state: str
    reason: Reason = Reason.UNSPECIFIED

    async def run(self, turn: Turn, now: int) -> None:
        """Ask for it, in the turn's transaction.

        Raises:
            WrongState: a certificate's graph has no such transition, or the CA knows no such state; nothing is asked.
            InlayError: ``descriptor_invalid``: the variable holds something other than certificates.
        """
        for item in _held(turn, self.variable):
            row = await objects.find(turn.tx, item.kind, item.id, lock=True)
            if not isinstance(row, Certificate):
                raise InlayError("descriptor_invalid")
            change = self._change(turn.tx, row)
            await ca_changes.ask(turn.tx, row, change, turn.parties.user.email, now, self.reason)

    def _change(self, tx: AsyncSession, row: Certificate) -> Change:
        start = model_of(tx).certificates.graph(row.profile).valid
        changes = {
            CertificateState.REVOKED.value: Change.REVOKE,
            CertificateState.ON_HOLD.value: Change.HOLD,
            start: Change.RELEASE,
        }
        if self.state not in changes:
            raise WrongState("certificate", self.state, changes)
        return changes[self.state]


def _held(turn: Turn, variable: str) -> list[CoreObject]:
    value = turn.process.variables.get(variable)
    found = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(item, CoreObject) for item in found):
        raise InlayError("descriptor_invalid")
    return found

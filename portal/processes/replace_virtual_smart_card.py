"""The process *Replace lost card*: a new card with the old one's encryption keys; the old one becomes Replaced.

Nothing happens to the old card before the new one has proved itself: a process that is given up leaves it as it was.
Whoever fears that somebody has the card and its PIN has it locked by an operator, at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from portal.encoding.binding import Recoverable
from portal.model.objects import CoreObject, ObjectKind
from portal.model.states import OrderState, VirtualSmartCardState
from portal.processes import card_certificates, encodings, recovery_permits
from portal.processes.definition import Target
from portal.processes.endings import DETAILS
from portal.processes.get_virtual_smart_card import GetVirtualSmartCard
from portal.processes.replacing import REPLACES
from portal.store import objects
from portal.store.tables import Card, Certificate
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.definition import Parties, Turn
    from portal.store.tables import Order, Process


class ReplaceVirtualSmartCard(GetVirtualSmartCard):
    """``VirtualSmartCardProcReplace``."""

    name = "VirtualSmartCardProcReplace"
    title = "Replace lost card"
    description = "Makes a new card here with the encryption keys of the lost one, which is revoked."
    target = Target(
        frozenset({ObjectKind.VIRTUAL_SMART_CARD}),
        frozenset({VirtualSmartCardState.ACTIVE.value, VirtualSmartCardState.INACTIVE.value}),
        own=True,
    )
    encoding = encodings.REPLACE_VIRTUAL_SMART_CARD

    async def check(self, tx: AsyncSession, parties: Parties) -> None:
        """Where keys of the archive are needed and two persons have to agree to that, they have to have agreed."""
        if await card_certificates.recoverable(tx, _old(parties)):
            await recovery_permits.check(tx, parties.subject.id, self._context.clock())

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """Those of a new card, the old card, and what is recovered of it."""
        found = await super().variables(tx, parties)
        old = _old(parties)
        recovered = await card_certificates.recoverable(tx, old)
        fresh = bool(found["with_encryption"]) and not self._usable(recovered)
        found |= {
            REPLACES: objects.describe(old),
            "with_encryption": fresh,
            "with_recovery": bool(recovered),
            "recovery_key": "82" if fresh else "9D",
            "recovered_certificates": [objects.describe(item) for item in recovered],
        }
        return found

    def facts(self, process: Process) -> Mapping[str, str]:
        """What will be made, or was, and what of the old card."""
        variables = process.variables
        names = [name for name in ("authentication", "signature", "encryption") if variables[f"with_{name}"]]
        recovered = len(variables["recovered_certificates"])
        facts = dict(super().facts(process))
        return {
            "New card": facts.pop("Card"),
            "Old card": f"{variables[REPLACES].label}: becomes Replaced, its other certificates are revoked",
            **facts,
            "Certificates": ", ".join(names) or "no new ones",
            "Encryption key": f"{recovered} recovered from the portal's archive"
            if recovered
            else "a new one",
        }

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """What Cancel does at this step."""
        if process.step == DETAILS:
            return "This process is closed. The new card stays active, and the old one replaced."
        if order is None or order.state == OrderState.WAITING:
            return "Nothing was changed yet. The process is closed, and the old card stays as it is."
        return (
            "What was made so far is undone: new certificates are revoked, and the old card stays as it is."
        )

    async def _recoverable(self, turn: Turn) -> dict[str, Recoverable]:
        held = turn.process.variables["recovered_certificates"]
        ids = [item.id for item in held if isinstance(item, CoreObject)]
        rows = await turn.tx.scalars(select(Certificate).where(Certificate.id.in_(ids)))
        return {row.id: Recoverable(row.profile, row.algorithm) for row in rows}

    def _usable(self, recovered: list[Certificate]) -> bool:
        """Whether the newest one can still be encrypted to, so that no new one is needed."""
        if not recovered:
            return False
        valid = self._context.database.model.certificates.graph(recovered[0].profile).valid
        return recovered[0].state == valid and recovered[0].not_after > self._context.clock()


def _old(parties: Parties) -> Card:
    if not isinstance(parties.target, Card):
        raise InlayError("internal")
    return parties.target

"""Where an object's state changes: along its graph, for a reason, and with an entry in the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, select

from portal.errors import ModelFaults
from portal.model import states
from portal.store import audit, objects
from portal.store.database import model_of
from portal.store.tables import Card, Certificate

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.model.graphs import StateGraph, Why
    from portal.store.database import Database


class StateChange(NamedTuple):
    """A change of state.

    Attributes:
        actor: who: a user's e-mail address, ``device:`` and its thumbprint, or ``portal``.
        at: seconds since 1970.
        why: the reason, one that the transition names.
        note: what a person gave as the reason; empty for none.
    """

    actor: str
    at: int
    why: Why
    note: str = ""


def graph_of(tx: AsyncSession, row: Card | Certificate) -> StateGraph[Any]:
    """The state graph of a card or a certificate."""
    if isinstance(row, Certificate):
        return model_of(tx).certificates.graph(row.profile)
    return states.OF_CARDS[row.kind]


async def change_state(
    tx: AsyncSession,
    row: Card | Certificate,
    target: str,
    change: StateChange,
    **details: str | int | list[str],
) -> None:
    """Change the state of a card or certificate that is locked for this writing transaction.

    Args:
        tx: the transaction.
        row: what changes.
        target: the state it is to be in.
        change: who, when and why.
        details: what else is worth knowing, for the audit log; never secrets.

    Raises:
        WrongState: its graph has no such transition from the state it is in; names the states that would do.
        WrongReason: the transition is for other reasons.
    """
    before = row.state
    row.state = str(graph_of(tx, row).check(before, target, change.why))
    row.changed_at = change.at
    kind = objects.kind_of(row).value
    if change.note:
        details["note"] = change.note
    await audit.record(
        tx,
        at=change.at,
        actor=change.actor,
        action=f"{kind}.state",
        kind=kind,
        object_id=row.id,
        before=before,
        after=row.state,
        why=change.why.value,
        **details,
    )


async def check_states(database: Database) -> None:
    """Check that every certificate is in a state of its graph: a configuration doesn't strand what is there.

    Raises:
        ModelFaults: some are in states that their graph doesn't have; how many, in which, and what to do.
    """
    query = select(Certificate.profile, Certificate.state, func.count())
    async with database.read() as tx:
        rows = await tx.execute(query.group_by(Certificate.profile, Certificate.state))
        faults = model_of(tx).certificates.unknown({(profile, state): n for profile, state, n in rows})
    if faults:
        raise ModelFaults(faults)


def is_final(tx: AsyncSession, row: Card | Certificate) -> bool:
    """Whether an object is in a state it can't leave."""
    return row.state in graph_of(tx, row).final

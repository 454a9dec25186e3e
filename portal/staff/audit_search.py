"""The audit log as administrators read it: filtered, page by page, and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from portal.staff import timeline
from portal.staff.filters import FilterField, SearchKind, read
from portal.staff.views import AuditPage
from portal.store.tables import AuditEntry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

PAGE: Final = 100
KIND: Final = SearchKind(
    "audit",
    "Audit",
    (
        FilterField("actor", "Who", "text", hint="A whole e-mail address, portal, or device: and its id."),
        FilterField("action", "What", "text", hint="A whole word of the log, for example user.state."),
        FilterField("object", "Object", "text", hint="A whole id."),
        FilterField("since", "From", "date"),
        FilterField("until", "Until", "date"),
    ),
)


async def page(tx: AsyncSession, sent: Mapping[str, str], before: int = 0) -> AuditPage:
    """One page, newest first.

    Args:
        tx: a reading transaction.
        sent: field to its text, as a form sends it.
        before: only rows before this number; 0 begins at the newest.

    Raises:
        FieldErrors: a field's name to what is wrong with it.
    """
    asked = read({KIND.name: KIND}, KIND.name, sent)
    query = select(AuditEntry)
    for name, column in (
        ("actor", AuditEntry.actor),
        ("action", AuditEntry.action),
        ("object", AuditEntry.object_id),
    ):
        if wanted := asked.get(name):
            query = query.where(column == wanted)
    if (start := asked.start_of("since")) is not None:
        query = query.where(AuditEntry.at >= start)
    if (end := asked.end_of("until")) is not None:
        query = query.where(AuditEntry.at < end)
    if before:
        query = query.where(AuditEntry.number < before)
    rows = list(await tx.scalars(query.order_by(AuditEntry.number.desc()).limit(PAGE + 1)))
    events = await timeline.told(tx, rows[:PAGE], frozenset())
    return AuditPage(asked, events, rows[PAGE - 1].number if len(rows) > PAGE else 0)

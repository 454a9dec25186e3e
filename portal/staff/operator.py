"""What the operator's pages may ask for. Every call checks role and account itself.

Users and devices are administrators' as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portal.model.states import Role
from portal.rate_limits import RateLimit
from portal.staff import csv_cells, filters, objects, search
from portal.staff.access import require
from portal.staff.sources import sources
from portal.store import audit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from portal.processes.context import Context
    from portal.processes.engine import Engine
    from portal.staff.filters import SearchKind
    from portal.staff.views import ObjectView, Results
    from portal.views import Session

MOST_EXPORTED: Final = 100_000
_EXPORTS: Final = (10, 600)
_OF_ADMINISTRATORS: Final = frozenset({"user", "device"})


class Operator:
    """Search, export, and the pages of objects."""

    def __init__(self, context: Context, engine: Engine) -> None:
        self._context = context
        titles = {name: definition.title for name, definition in engine.definitions.items()}
        self._kinds = filters.search_kinds(titles, context.database.model.certificates.states)
        self._sources = sources(titles)
        self._exports = RateLimit(*_EXPORTS, context.clock)

    def kinds(self, session: Session) -> Mapping[str, SearchKind]:
        """What can be searched for.

        Raises:
            Forbidden: not an operator, nor an administrator who asks for users or devices.
            InlayError: ``user_not_active``.
        """
        require(session, Role.OPERATOR, Role.ADMINISTRATOR)
        if Role.OPERATOR in session.user.roles:
            return self._kinds
        return {name: kind for name, kind in self._kinds.items() if name in _OF_ADMINISTRATORS}

    async def search(self, session: Session, kind: str, sent: Mapping[str, str], after: str = "") -> Results:
        """One page of a search.

        Args:
            session: who asks.
            kind: kind of object.
            sent: field to its text, as a form sends it.
            after: where the page before ended.

        Raises:
            Forbidden: not an operator, nor an administrator who asks for users or devices.
            NotFound: no such kind.
            FieldErrors: a field's name to what is wrong with it.
            InlayError: ``user_not_active``.
        """
        _require(session, kind)
        asked = filters.read(self._kinds, kind, sent)
        async with self._context.database.read() as tx:
            return await search.results(tx, self._sources[kind], asked, after)

    async def export(self, session: Session, kind: str, sent: Mapping[str, str]) -> AsyncIterator[str]:
        """All hits of a search as CSV, line by line; at most ``MOST_EXPORTED``. The audit log keeps who did it.

        Raises:
            Forbidden: not an operator, nor an administrator who asks for users or devices.
            NotFound: no such kind.
            FieldErrors: a field's name to what is wrong with it.
            InlayError: ``rate_limited``, ``user_not_active``.
        """
        _require(session, kind)
        asked = filters.read(self._kinds, kind, sent)
        self._exports.take(session.user.id)
        await self._note_export(session, asked)
        return self._lines(asked)

    async def _lines(self, asked: filters.Filter) -> AsyncIterator[str]:
        source = self._sources[asked.kind.name]
        yield csv_cells.MARK + csv_cells.line(["Id", *source.columns, "State", "Note"])
        async for hit in search.every(self._context.database, source, asked, MOST_EXPORTED):
            yield csv_cells.line([hit.object.id, *hit.cells, hit.state, hit.note])

    async def _note_export(self, session: Session, asked: filters.Filter) -> None:
        async with self._context.database.write() as tx:
            await audit.record(
                tx,
                at=self._context.clock(),
                actor=session.user.email,
                action="objects.exported",
                kind="search",
                object_id=asked.kind.name,
                filter=[f"{name}={text}" for name, text in asked.values.items()],
            )

    async def object(self, session: Session, kind: str, key: str, before: int = 0) -> ObjectView:
        """An object, with the part of its history before a row; 0 begins at the newest.

        Raises:
            Forbidden: not an operator, nor an administrator who asks for users or devices.
            NotFound: no such object.
            InlayError: ``user_not_active``.
        """
        _require(session, kind)
        async with self._context.database.read() as tx:
            return await objects.view(tx, kind, key, before)


def _require(session: Session, kind: str) -> None:
    if kind in _OF_ADMINISTRATORS:
        require(session, Role.OPERATOR, Role.ADMINISTRATOR)
    else:
        require(session, Role.OPERATOR)

"""Core objects as rows: found by kind and id, described, and owned by somebody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from portal.errors import NotFound
from portal.model.objects import CARD_KINDS, MAX_LABEL, CoreObject, ObjectKind
from portal.store.tables import ArchivedKey, Card, Certificate, User

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

Row = Card | Certificate | User | ArchivedKey


async def find(tx: AsyncSession, kind: str, object_id: str, *, lock: bool = False) -> Row:
    """An object as it is stored now.

    Args:
        tx: the transaction.
        kind: a kind of ``ObjectKind``.
        object_id: its id.
        lock: keep others from changing it until this writing transaction ends.

    Raises:
        NotFound: there is none of this kind and id.
    """
    row: Row | None = None
    if kind in frozenset(ObjectKind):
        table: type[Any] = _table(ObjectKind(kind))
        query = select(table).where(table.id == object_id).execution_options(populate_existing=True)
        row = (await tx.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
    if row is None or kind_of(row) != kind:
        raise NotFound(kind)
    return row


def kind_of(row: Row) -> ObjectKind:
    """The kind of object a row holds."""
    match row:
        case Card():
            return ObjectKind(row.kind)
        case Certificate():
            return ObjectKind.CERTIFICATE
        case User():
            return ObjectKind.USER
        case ArchivedKey():
            return ObjectKind.ARCHIVED_KEY


def describe(row: Row) -> CoreObject:
    """A row's descriptor."""
    return CoreObject(kind_of(row), row.id, _label(row)[:MAX_LABEL])


def owner_of(row: Row) -> str:
    """Id of the user an object belongs to; a user belongs to itself."""
    return row.id if isinstance(row, User) else row.owner_id


def state_of(row: Row) -> str | None:
    """The state an object is in; None for a kind without states."""
    return None if isinstance(row, ArchivedKey) else row.state


def _label(row: Row) -> str:
    match row:
        case Card():
            return row.label
        case Certificate():
            return f"{row.profile} {row.serial}"
        case User():
            return row.email
        case ArchivedKey():
            return f"{row.algorithm} {row.id}"


def _table(kind: ObjectKind) -> type[Card] | type[Certificate] | type[User] | type[ArchivedKey]:
    if kind in CARD_KINDS:
        return Card
    match kind:
        case ObjectKind.CERTIFICATE:
            return Certificate
        case ObjectKind.USER:
            return User
        case _:
            return ArchivedKey

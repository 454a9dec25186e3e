"""Typed relations between objects, as rows."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from sqlalchemy import select

from portal.model.objects import CoreObject, ObjectKind
from portal.store import audit
from portal.store.database import model_of
from portal.store.tables import ObjectRelation
from protocol.errors import InlayError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


async def relate(
    tx: AsyncSession,
    source: CoreObject,
    target: CoreObject,
    relation: str | None = None,
    *,
    actor: str,
    at: int,
) -> None:
    """Relate two objects; a relation that is there already stays as it is.

    Args:
        tx: a writing transaction.
        source: the first object, for example the card.
        target: the second, for example its certificate.
        relation: a type of ``portal.model.relations``; None: the default type.
        actor: who, for the audit log.
        at: seconds since 1970.

    Raises:
        InlayError: ``relation_unknown``.
    """
    types = model_of(tx).relations
    name = types.default if relation is None else relation
    if name not in types:
        raise InlayError("relation_unknown", relation=name)
    columns = {
        "from_kind": source.kind.value,
        "from_id": source.id,
        "relation": name,
        "to_kind": target.kind.value,
        "to_id": target.id,
    }
    if (await tx.execute(select(ObjectRelation.id).filter_by(**columns))).first() is not None:
        return
    tx.add(ObjectRelation(id=secrets.token_hex(16), created_at=at, **columns))
    await audit.record(
        tx,
        at=at,
        actor=actor,
        action="relation.made",
        kind=source.kind.value,
        object_id=source.id,
        relation=name,
        to_kind=target.kind.value,
        to=target.id,
    )


async def related(tx: AsyncSession, source: CoreObject, relation: str, kind: ObjectKind) -> list[str]:
    """Ids of the objects of a kind that an object has this relation to, in the order in which they were related."""
    query = select(ObjectRelation.to_id).where(
        ObjectRelation.from_kind == source.kind.value,
        ObjectRelation.from_id == source.id,
        ObjectRelation.relation == relation,
        ObjectRelation.to_kind == kind.value,
    )
    return list(await tx.scalars(query.order_by(ObjectRelation.created_at, ObjectRelation.id)))

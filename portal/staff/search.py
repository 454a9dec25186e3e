"""Searches: pages cut by key, never by offset, and a count that says where it stopped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select, tuple_, union_all

from portal.staff.filters import TEXT
from portal.staff.sources import named
from portal.staff.views import Results
from portal.store.tables import User

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import UnaryExpression
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.staff.filters import Filter
    from portal.staff.sources import Conditions, Order, Source
    from portal.staff.views import Hit
    from portal.store.database import Database

PAGE: Final = 50
COUNTED_TO: Final = 1000
_CHUNK: Final = 500
_FEW: Final = 1000
"""Up to so many objects that fit a text are searched by their ids."""
_CURSOR: Final = re.compile(r"(-?\d{1,15})\.([A-Za-z0-9_.-]{1,64})\Z")


async def results(tx: AsyncSession, source: Source, asked: Filter, after: str = "") -> Results:
    """One page.

    Args:
        tx: a reading transaction.
        source: where the filter's kind is searched.
        asked: the filter.
        after: the page before told it; anything else begins at the first.
    """
    conditions = await _conditions(tx, source, asked)
    keys = await _keys(tx, source, asked, conditions, _cursor(after), PAGE + 1)
    shown = keys[:PAGE]
    found = await source.hits(tx, [key for _, key in shown])
    return Results(
        filter=asked,
        columns=source.columns,
        hits=[found[key] for _, key in shown if key in found],
        count=await _count(tx, source, conditions),
        counted_to=COUNTED_TO,
        after=f"{shown[-1][0]}.{shown[-1][1]}" if len(keys) > PAGE else "",
    )


async def every(database: Database, source: Source, asked: Filter, most: int) -> AsyncIterator[Hit]:
    """All hits up to a number, read in pieces: nothing is held, neither rows nor a transaction."""
    position: tuple[int, str] | None = None
    async with database.read() as tx:
        conditions = await _conditions(tx, source, asked)
    while most > 0:
        async with database.read() as tx:
            keys = await _keys(tx, source, asked, conditions, position, min(_CHUNK, most))
            found = await source.hits(tx, [key for _, key in keys])
        for _, key in keys:
            if key in found:
                yield found[key]
        if len(keys) < _CHUNK:
            return
        position, most = keys[-1], most - len(keys)


async def _conditions(tx: AsyncSession, source: Source, asked: Filter) -> Conditions:
    """The filter as conditions: a text that few objects fit as their ids, one that many fit as a condition of each."""
    found = source.conditions(asked)
    text = asked.get(TEXT)
    if not text:
        return found
    people = list(await tx.scalars(select(User.id).where(named(text)).limit(_FEW + 1)))
    if len(people) <= _FEW:
        ids = set(await tx.scalars(union_all(*source.narrow(text, people)).limit(_FEW + 1)))
        if len(ids) <= _FEW:
            return [*found, source.id.in_(ids)]
    return [*found, source.fits(text)]


async def _keys(
    tx: AsyncSession,
    source: Source,
    asked: Filter,
    conditions: Conditions,
    position: tuple[int, str] | None,
    most: int,
) -> list[tuple[int, str]]:
    order = source.order(asked)
    query = select(order.column, source.id).where(*conditions)
    if position is not None:
        here = tuple_(order.column, source.id)
        query = query.where(here < position if order.newest_first else here > position)
    rows = await tx.execute(query.order_by(*_ordering(source, order)).limit(most))
    return [(number, key) for number, key in rows]


def _ordering(source: Source, order: Order) -> tuple[UnaryExpression[int], UnaryExpression[str]]:
    if order.newest_first:
        return order.column.desc(), source.id.desc()
    return order.column.asc(), source.id.asc()


async def _count(tx: AsyncSession, source: Source, conditions: Conditions) -> int:
    """How many there are, up to where counting stops."""
    some = select(source.id).where(*conditions).limit(COUNTED_TO).subquery()
    return (await tx.execute(select(func.count()).select_from(some))).scalar_one()


def _cursor(text: str) -> tuple[int, str] | None:
    match = _CURSOR.match(text)
    return (int(match[1]), match[2]) if match else None

"""What was done to an audit log: rows changed, removed, inserted, put in another order, each named by number and kind.

Every row holds its number, its content, the hash of the row before and its own hash, which covers all three. The hashes
link rows to one another whatever their numbers say, so the log is read along its links:

* rows that are linked are one *run*; a log that nobody touched is a single run from the beginning to the head row;
* a row's place in its run is the number it was written with; another number means that it was moved;
* what lies between two runs was removed; a row whose place another run holds already was inserted;
* a row whose hash isn't that of its content was changed; so was the last row of a run that ends where the next begins.

Who rewrites everything from some row on, head row included, leaves a single run: that is found by the heads that were
signed and kept elsewhere (``portal.audit_heads``).
"""

from __future__ import annotations

import asyncio
import enum
import time
from itertools import zip_longest
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import select

from portal.store import audit
from portal.store.tables import AuditEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

_CHUNK: Final = 500
_SEARCH_SECONDS: Final = 10.0
"""How long it is looked for numbers that rows were written with: who can write the database can claim any."""


class Kind(enum.StrEnum):
    """What was done to a row."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    HEAD = "the log's end was changed"


class Fault(NamedTuple):
    """Something that was done.

    Attributes:
        number: the first row: its number now, or the one it had when it was removed.
        last: the last row of those to which it was done; the same as ``number`` for one.
        kind: what was done.
        note: what else is known, for a person; empty for nothing.
    """

    number: int
    last: int
    kind: Kind
    note: str = ""

    def __str__(self) -> str:
        rows = f"row {self.number}" if self.last == self.number else f"rows {self.number} to {self.last}"
        return f"{rows}: {self.kind}" + (f" ({self.note})" if self.note else "")


class _Row(NamedTuple):
    number: int
    previous: str
    hash: str
    entry: AuditEntry | None
    """the whole row, when its hash isn't that of its number, content and previous hash"""


class _Run(NamedTuple):
    first: int
    """the number that its first row was written with"""
    rows: list[_Row]

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1

    def at(self, number: int) -> _Row:
        """The row that was written with this number."""
        return self.rows[number - self.first]


async def faults(tx: AsyncSession) -> list[Fault]:
    """Everything that was done to the log, as far as the database itself tells.

    Args:
        tx: a reading transaction: one picture, whatever is written meanwhile.

    Returns:
        Faults by number; empty for an unbroken log.
    """
    if await audit.first_fault(tx) is None:
        return []
    query = select(AuditEntry).order_by(AuditEntry.number).execution_options(yield_per=_CHUNK)
    rows = [
        _Row(entry.number, entry.previous, entry.hash, None if audit.fits(entry) else entry)
        async for entry in await tx.stream_scalars(query)
        if _is_number(entry.number)
    ]
    head = await audit.stored_head(tx)
    # in a thread: a log that somebody tampered with at length must not keep the portal from its work
    return await asyncio.to_thread(lambda: _joined(_found(rows, head)))


def _found(rows: Sequence[_Row], head: tuple[int, str] | None) -> Iterator[Fault]:
    chains, circular = _chains(rows)
    highest = max([row.number for row in rows] + [head[0] if head else 0, len(rows)])
    budget = _budget()
    runs = [_Run(_first(chain, highest, budget), chain) for chain in chains]
    # of two runs that hold the same places, the one that leads to the head is the log, else the longer one
    runs.sort(key=lambda run: (head is None or run.rows[-1].hash != head[1], -len(run.rows), run.first))
    taken: set[int] = set()
    kept: list[_Run] = []
    for run in runs:
        places = range(run.first, run.last + 1)
        beyond = head is not None and run.first > head[0] and run.rows[-1].hash != head[1]
        if beyond or run.first < 1 or taken & set(places):
            yield from (Fault(row.number, row.number, Kind.INSERTED) for row in run.rows)
            continue
        if head is not None and run.first <= head[0] < run.last and run.at(head[0]).hash == head[1]:
            yield from (
                Fault(row.number, row.number, Kind.INSERTED) for row in run.rows[head[0] + 1 - run.first :]
            )
            del run.rows[head[0] + 1 - run.first :]
        taken |= set(places)
        kept.append(run)
        yield from _within(run)
    yield from (Fault(row.number, row.number, Kind.CHANGED) for row in circular)
    yield from _between(sorted(kept, key=lambda run: run.first), head)


def _chains(rows: Sequence[_Row]) -> tuple[list[list[_Row]], list[_Row]]:
    """Rows by their links, the longest first where two follow the same row; and rows that lead round in a circle."""
    by_hash: dict[str, _Row] = {}
    for row in rows:
        if row.hash not in by_hash or row.entry is None:
            by_hash[row.hash] = row
    children: dict[int, list[_Row]] = {row.number: [] for row in rows}
    roots: list[_Row] = []
    for row in rows:
        parent = by_hash.get(row.previous)
        (roots if parent is None else children[parent.number]).append(row)
    reached = _lengths(roots, children)
    for row in rows:
        # only a changed row can lead round in a circle: what it names isn't what it was written with
        if row.number not in reached and row.entry is not None:
            children[by_hash[row.previous].number].remove(row)
            roots.append(row)
    lengths = _lengths(roots, children)
    chains = []
    while roots:
        row = roots.pop()
        chain = [row]
        while after := children[row.number]:
            row = max(after, key=lambda child: (lengths[child.number], child.entry is None))
            roots += [child for child in after if child is not row]
            chain.append(row)
        chains.append(chain)
    return chains, [row for row in rows if row.number not in lengths]


def _lengths(roots: Iterable[_Row], children: Mapping[int, Sequence[_Row]]) -> dict[int, int]:
    """How many rows follow each row along the longest way; of those that are reached from a root."""
    order, waiting = [], list(roots)
    while waiting:
        row = waiting.pop()
        order.append(row)
        waiting += children[row.number]
    lengths: dict[int, int] = {}
    for row in reversed(order):
        lengths[row.number] = 1 + max((lengths[child.number] for child in children[row.number]), default=0)
    return lengths


def _is_number(value: object) -> bool:
    """SQLite stores what it is given: a row without a number is missed at its place."""
    return isinstance(value, int)


def _budget() -> Iterator[None]:
    until = time.monotonic() + _SEARCH_SECONDS
    while time.monotonic() < until:
        yield None


def _first(chain: Sequence[_Row], highest: int, budget: Iterator[None]) -> int:
    """The number that a chain's first row was written with."""
    if chain[0].previous == audit.START:
        return 1
    for place, row in enumerate(chain):
        if row.entry is None:
            return row.number - place
    for place, row in enumerate(chain):
        number = _written_as(row, range(1, highest + 2), budget)
        if number is not None:
            return number - place
    return chain[0].number


def _written_as(row: _Row, numbers: Iterable[int], budget: Iterator[None]) -> int | None:
    """The one of these numbers that a row's hash covers; None as well when the time to look for it is over."""
    entry = row.entry
    if entry is None:
        return row.number
    tried = (number for number, _ in zip(numbers, budget, strict=False))
    return next((number for number in tried if audit.fits(entry, number)), None)


def _within(run: _Run) -> Iterator[Fault]:
    """Rows that were changed or moved."""
    for place, row in enumerate(run.rows, run.first):
        if row.number != place:
            yield Fault(row.number, row.number, Kind.REORDERED, f"it was row {place}")
        if row.entry is not None and not audit.fits(row.entry, place):
            yield Fault(row.number, row.number, Kind.CHANGED)


def _between(runs: Sequence[_Run], head: tuple[int, str] | None) -> Iterator[Fault]:
    """What is missing between the runs, and how the log ends."""
    end = 0
    for run, after in zip_longest(runs, runs[1:]):
        if run.first > end + 1:
            yield Fault(end + 1, run.first - 1, Kind.REMOVED)
        end = run.last
        final = run.rows[-1]
        if after is not None and after.first == end + 1 and final.entry is None is after.rows[0].entry:
            yield Fault(final.number, final.number, Kind.CHANGED, "its hash was made anew")
    last = runs[-1].rows[-1].hash if runs else audit.START
    if head is None:
        yield Fault(end, end, Kind.HEAD, "there is none")
    elif head[0] > end:
        yield Fault(end + 1, head[0], Kind.REMOVED)
    elif head != (end, last) and not (runs and runs[-1].rows[-1].entry is not None):
        yield Fault(end, end, Kind.HEAD)


def _joined(found: Iterable[Fault]) -> list[Fault]:
    """Faults by number, neighbours of the same kind as one."""
    joined: list[Fault] = []
    for fault in sorted(found):
        before = joined[-1] if joined else None
        same = before is not None and (before.kind, before.note) == (fault.kind, fault.note)
        if before is not None and same and fault.number <= before.last + 1:
            joined[-1] = before._replace(last=max(before.last, fault.last))
        else:
            joined.append(fault)
    return joined

"""The append-only log of everything that changed: a hash chain, one writer at a time.

Each row's hash covers its content and the hash before it, so a changed, removed, inserted or reordered row breaks the
chain. The head row is locked by each writer; a change and its entry are one transaction.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from portal.store.columns import Unreadable
from portal.store.tables import AuditEntry, AuditHead

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

_CHUNK: Final = 500
START: Final = "0" * 64
"""What stands before the first row."""


async def record(
    tx: AsyncSession,
    *,
    at: int,
    actor: str,
    action: str,
    kind: str,
    object_id: str,
    **details: str | int | list[str],
) -> None:
    """Append an entry, in the transaction that makes the change.

    Args:
        tx: a writing transaction.
        at: time.
        actor: who: a user's e-mail address, ``device:`` and its thumbprint, or ``portal``.
        action: what, for example ``certificate.issued``.
        kind: kind of object.
        object_id: its id.
        details: what else is worth knowing; never secrets.
    """
    head = (await tx.execute(select(AuditHead).with_for_update())).scalar_one()
    entry = AuditEntry(
        number=head.number + 1,
        at=at,
        actor=actor,
        action=action,
        kind=kind,
        object_id=object_id,
        details=details,
        previous=head.hash,
    )
    entry.hash = _hash(entry, entry.number)
    tx.add(entry)
    head.number, head.hash = entry.number, entry.hash
    await tx.flush()


async def first_fault(tx: AsyncSession) -> int | None:
    """Walk the chain.

    Returns:
        Number of the first row that doesn't fit, or None. A cut-off end shows as the number after the last row.
    """
    expected, previous = 1, START
    query = select(AuditEntry).order_by(AuditEntry.number).execution_options(yield_per=_CHUNK)
    entries = await tx.stream_scalars(query)
    try:
        async for entry in entries:
            if entry.number != expected or entry.previous != previous or not fits(entry):
                return expected
            expected, previous = expected + 1, entry.hash
    finally:
        await entries.close()
    return None if await stored_head(tx) == (expected - 1, previous) else expected


async def head(tx: AsyncSession) -> tuple[int, str]:
    """Number and hash of the last row; 0 and ``START`` before the first."""
    row = (await tx.execute(select(AuditHead))).scalar_one()
    return row.number, row.hash


async def stored_head(tx: AsyncSession) -> tuple[int, str] | None:
    """The same of a log that may have been tampered with: None when the head row is missing, or isn't one alone."""
    rows = list(await tx.scalars(select(AuditHead)))
    one = len(rows) == 1 and isinstance(rows[0].number, int)  # SQLite stores what it is given
    return (rows[0].number, rows[0].hash) if one else None


def fits(entry: AuditEntry, number: int | None = None) -> bool:
    """Whether a row's hash is that of its content, with its own number or the one that is given."""
    if isinstance(entry.details, Unreadable):
        return False
    try:
        return entry.hash == _hash(entry, entry.number if number is None else number)
    except (TypeError, ValueError, RecursionError):  # something that no entry ever holds
        return False


def _hash(entry: AuditEntry, number: int) -> str:
    content: list[Any] = [
        number,
        entry.at,
        entry.actor,
        entry.action,
        entry.kind,
        entry.object_id,
        entry.details,
        entry.previous,
    ]
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

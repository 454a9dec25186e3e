"""Signed heads of the audit log, kept outside the database: who rewrites the whole chain can't rewrite those.

A head names the last row and its hash, and is signed by the root key. A portal that runs exports one at its start and
every hour in which something was logged: to a file, a line each, and to its own log, so that whatever collects logs
has it too. The file is worth most on another machine.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from portal.errors import PortalError
from portal.store import audit, audit_check
from portal.store.audit_check import Fault, Kind
from portal.store.tables import AuditEntry
from protocol import jose
from protocol.messages import Message

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.clock import Clock
    from portal.keys import KeyPort
    from portal.store.database import Database

TYPE: Final = "inlay-audit-head+jwt"
EXPORT_SECONDS: Final = 3600
_LOG = logging.getLogger(__name__)


class Head(Message, frozen=True):
    """The end of the log at a time; ``number`` 0 and no hash before the first row."""

    iss: str
    number: int
    hash: str
    iat: int


class Report(NamedTuple):
    """What a check found.

    Attributes:
        rows: number of the last row.
        heads: how many signed heads were compared.
        faults: what was done, by number; empty for an unbroken log.
        foreign: lines of the heads that this portal didn't sign.
    """

    rows: int
    heads: int
    faults: Sequence[Fault]
    foreign: Sequence[int]

    @property
    def unbroken(self) -> bool:
        """Whether nothing was found."""
        return not self.faults and not self.foreign


class AuditBroken(PortalError):
    """The log isn't what it was: its head isn't signed.

    Attributes:
        report: what a check found.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(*map(str, report.faults))
        self.report = report

    def __str__(self) -> str:
        return "the audit log was changed; its head is not signed. `inlay-portal audit verify` tells where"


async def verify(database: Database, keys: KeyPort, portal: str, recorded: Sequence[str]) -> Report:
    """Check the log against itself and against heads that were signed before.

    Args:
        database: the portal's.
        keys: its keys; the root key has signed.
        portal: the portal's id.
        recorded: tokens of heads.
    """
    root = keys.root().public
    heads: list[Head] = []
    foreign = []
    for line, token in enumerate(recorded, 1):
        try:
            head = jose.verify(token, TYPE, [root], Head)
        except jose.TokenError:
            foreign.append(line)
            continue
        if head.iss == portal:
            heads.append(head)
        else:
            foreign.append(line)
    async with database.read() as tx:
        found = await audit_check.faults(tx)
        stored = await audit.stored_head(tx)
        found += await _against(tx, sorted(heads, key=lambda item: (item.number, item.iat)), found)
    return Report(stored[0] if stored else 0, len(heads), sorted(set(found)), foreign)


async def sign(database: Database, keys: KeyPort, portal: str, now: int) -> tuple[Head, str]:
    """Sign the head of the log as it is now.

    Returns:
        The head, and its token (compact JWS).
    """
    async with database.read() as tx:
        number, hashed = await audit.head(tx)
    head = Head(iss=portal, number=number, hash=hashed, iat=now)
    return head, keys.root().sign(TYPE, head)


async def check_and_sign(
    database: Database, keys: KeyPort, portal: str, now: int, recorded: Sequence[str]
) -> tuple[Head, str]:
    """Check the log as ``verify`` does, and sign its head.

    Raises:
        AuditBroken: something was found.
    """
    report = await verify(database, keys, portal, recorded)
    if not report.unbroken:
        raise AuditBroken(report)
    return await sign(database, keys, portal, now)


def append(file: Path, token: str) -> None:
    """Add a token to a file of heads, durably; the file is made for this user alone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, token.encode("ascii") + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def recorded_in(file: Path) -> list[str]:
    """The tokens of a file of heads; none when there is no file yet."""
    return file.read_text("ascii", errors="replace").split() if file.exists() else []


class HeadExport:
    """Exports the head of a portal that runs (``portal.processes.alarm.Work``)."""

    topic = "audit heads"

    def __init__(self, database: Database, keys: KeyPort, portal: str, clock: Clock, file: Path) -> None:
        self._database, self._keys, self._portal, self._clock, self._file = (
            database,
            keys,
            portal,
            clock,
            file,
        )
        self._last: tuple[int, str] | None = None
        self._next = 0

    async def next_due(self) -> int | None:
        """An hour after the last time."""
        return self._next

    async def run_due(self) -> None:
        """Export the head, if it isn't the one that was exported last."""
        if self._clock() < self._next:
            return
        head, token = await sign(self._database, self._keys, self._portal, self._clock())
        if (head.number, head.hash) != self._last:
            await asyncio.to_thread(append, self._file, token)
            _LOG.info("audit head %d: %s", head.number, token)
            self._last = (head.number, head.hash)
        self._next = self._clock() + EXPORT_SECONDS


async def _against(tx: AsyncSession, heads: Sequence[Head], found: Sequence[Fault]) -> list[Fault]:
    """What signed heads tell beyond the chain: an end that was cut off, rows that were made anew."""
    stored = await audit.stored_head(tx)
    end = stored[0] if stored else 0
    good, told = 0, []
    for head in heads:
        when = datetime.datetime.fromtimestamp(head.iat, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        if await _hash_of(tx, head.number) == head.hash:
            good = max(good, head.number)
        elif head.number > end:
            told.append(Fault(end + 1, head.number, Kind.REMOVED, f"a head signed {when} has them"))
        elif not any(fault.number <= head.number for fault in found):
            note = f"made anew: the head signed {when} says otherwise"
            told.append(Fault(good + 1, head.number, Kind.CHANGED, note))
            good = head.number
    cut = [fault for fault in told if fault.kind is Kind.REMOVED]
    return [fault for fault in told if fault.kind is not Kind.REMOVED] + cut[-1:]


async def _hash_of(tx: AsyncSession, number: int) -> str | None:
    if number == 0:
        return audit.START
    entry = await tx.get(AuditEntry, number)
    return None if entry is None else entry.hash

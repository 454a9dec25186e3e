"""Signed heads of the audit log, kept outside the database: who rewrites the whole chain can't rewrite those.

A head names the last row and its hash, and is signed by the root key. One file holds them, a line each; it belongs on
another machine, or on paper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portal.errors import PortalError
from portal.store import audit
from portal.store.tables import AuditEntry
from protocol import jose
from protocol.messages import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.keys import KeyPort
    from portal.store.database import Database

TYPE: Final = "inlay-audit-head+jwt"


class Head(Message, frozen=True):
    """The end of the log at a time; ``number`` 0 and no hash before the first row."""

    iss: str
    number: int
    hash: str
    iat: int


class AuditBroken(PortalError):
    """The log isn't what it was.

    Attributes:
        number: the first row that doesn't fit, or the row of a head that doesn't.
        signed: a signed head tells so, not the chain itself.
    """

    def __init__(self, number: int, *, signed: bool) -> None:
        super().__init__(number, signed)
        self.number = number
        self.signed = signed

    def __str__(self) -> str:
        told = "a signed head says otherwise" if self.signed else "the chain breaks there"
        return f"the audit log was changed at row {self.number}: {told}"


async def check_and_sign(
    database: Database, keys: KeyPort, portal: str, now: int, recorded: Sequence[str]
) -> tuple[Head, str]:
    """Check the log against itself and the heads that were signed before, and sign its head now.

    Args:
        database: the portal's.
        keys: its keys; the root key signs.
        portal: the portal's id.
        now: seconds since 1970.
        recorded: tokens of earlier heads.

    Returns:
        The head, and its token (compact JWS).

    Raises:
        AuditBroken: it was changed, or a recorded head isn't this portal's.
    """
    root = keys.root()
    async with database.read() as tx:
        fault = await audit.first_fault(tx)
        if fault is not None:
            raise AuditBroken(fault, signed=False)
        for line, token in enumerate(recorded, 1):
            try:
                head = jose.verify(token, TYPE, [root.public], Head)
            except jose.TokenError:
                raise AuditBroken(line, signed=True) from None
            if head.iss != portal or await _hash_of(tx, head.number) != head.hash:
                raise AuditBroken(head.number, signed=True)
        number, hashed = await audit.head(tx)
    head = Head(iss=portal, number=number, hash=hashed, iat=now)
    return head, root.sign(TYPE, head)


async def _hash_of(tx: AsyncSession, number: int) -> str | None:
    if number == 0:
        return audit.START
    entry = await tx.get(AuditEntry, number)
    return None if entry is None else entry.hash

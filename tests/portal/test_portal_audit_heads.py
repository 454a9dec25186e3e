"""Signed heads tell what the chain itself can't: that it was made anew from its beginning to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, select, update

from portal.audit_heads import AuditBroken, Head, check_and_sign
from portal.store import audit
from portal.store.tables import AuditEntry, AuditHead
from protocol import jose

if TYPE_CHECKING:
    from tests.support.portal_kit import Kit


async def _sign(kit: Kit, recorded: list[str]) -> tuple[Head, str]:
    info = kit.services.info
    return await check_and_sign(kit.database, kit.portal.keys, info.id, kit.clock(), recorded)


async def _rewrite(kit: Kit) -> None:
    """Who can write the database takes a row out, and computes all hashes and the head anew."""
    async with kit.database.write() as tx:
        rows = list(await tx.scalars(select(AuditEntry).order_by(AuditEntry.number)))
        kept = [(row.at, row.actor, row.action, row.kind, row.object_id, row.details) for row in rows[1:]]
        await tx.execute(delete(AuditEntry))
        tx.expunge_all()
        await tx.execute(update(AuditHead).values(number=0, hash=audit.START))
        for at, actor, action, kind, object_id, details in kept:
            await audit.record(
                tx, at=at, actor=actor, action=action, kind=kind, object_id=object_id, **details
            )


async def test_a_chain_made_anew_is_told_by_a_signed_head(kit: Kit) -> None:
    await kit.person()
    _, token = await _sign(kit, [])
    await _rewrite(kit)
    await kit.login()
    with pytest.raises(AuditBroken) as caught:
        await _sign(kit, [token])
    assert caught.value.signed


async def test_a_chain_made_anew_gets_through_without_a_signed_head(kit: Kit) -> None:
    await kit.person()
    await _rewrite(kit)
    await _sign(kit, [])


async def test_a_head_that_somebody_else_signed(kit: Kit) -> None:
    await kit.person()
    head, _ = await _sign(kit, [])
    forged = jose.SigningKey.generate().sign("inlay-audit-head+jwt", head)
    with pytest.raises(AuditBroken):
        await _sign(kit, [forged])


async def test_a_broken_chain(kit: Kit) -> None:
    await kit.person()
    async with kit.database.write() as tx:
        await tx.execute(update(AuditEntry).where(AuditEntry.number == 1).values(actor="nobody"))
    with pytest.raises(AuditBroken) as caught:
        await _sign(kit, [])
    assert (caught.value.number, caught.value.signed) == (1, False)


async def test_a_log_that_grew_fits_its_heads(kit: Kit) -> None:
    _, first = await _sign(kit, [])
    await kit.person()
    head, second = await _sign(kit, [first])
    assert head.number >= 2
    assert (await _sign(kit, [first, second]))[0].number == head.number

"""Signed heads tell what the chain itself can't: that it was made anew from its beginning to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from sqlalchemy import delete, select, update

from portal.audit_heads import AuditBroken, Head, HeadExport, check_and_sign, recorded_in, verify
from portal.store import audit
from portal.store.tables import AuditEntry, AuditHead
from protocol import jose

if TYPE_CHECKING:
    from pathlib import Path

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


async def _told(kit: Kit, recorded: list[str]) -> list[str]:
    report = await verify(kit.database, kit.portal.keys, kit.services.info.id, recorded)
    return [*map(str, report.faults), *(f"line {line}" for line in report.foreign)]


async def _cut_off(kit: Kit, rows: int) -> None:
    """Who can write the database takes the last rows out, and sets the head to fit."""
    async with kit.database.write() as tx:
        head = (await tx.execute(select(AuditHead))).scalar_one()
        head.number -= rows
        head.hash = (await tx.get_one(AuditEntry, head.number)).hash
        await tx.execute(delete(AuditEntry).where(AuditEntry.number > head.number))


async def test_a_chain_made_anew_is_told_by_a_signed_head(kit: Kit) -> None:
    """From the row on from which no signed head fits any more."""
    await kit.person()
    first, before = await _sign(kit, [])
    await kit.person("bea@example.org")
    second, token = await _sign(kit, [])
    await _rewrite(kit)
    await kit.login()
    told = await _told(kit, [before, token])
    assert [line.split(" (")[0] for line in told] == [
        f"rows 1 to {first.number}: changed",
        f"rows {first.number + 1} to {second.number}: changed",
    ]
    with pytest.raises(AuditBroken):
        await _sign(kit, [token])


async def test_a_chain_made_anew_gets_through_without_a_signed_head(kit: Kit) -> None:
    """That is why heads are kept elsewhere."""
    await kit.person()
    await _rewrite(kit)
    await _sign(kit, [])


async def test_rows_made_anew_after_a_head_that_fits(kit: Kit) -> None:
    """Only what lies between the last head that fits and the first that doesn't."""
    await kit.person()
    first, good = await _sign(kit, [])
    await kit.person("eve@example.org")
    second, bad = await _sign(kit, [good])
    await _cut_off(kit, second.number - first.number)
    for email in ("adam@example.org", "bea@example.org"):
        await kit.person(email)
    (told,) = await _told(kit, [bad, good])
    assert told.startswith(
        f"rows {first.number + 1} to {second.number}: changed (made anew: the head signed "
    )


async def test_an_end_that_was_cut_off_is_told_by_a_signed_head(kit: Kit) -> None:
    """With the head row made to fit, the log itself looks whole."""
    await kit.person()
    head, token = await _sign(kit, [])
    await _cut_off(kit, 2)
    assert await _told(kit, []) == []
    (told,) = await _told(kit, [token])
    assert told.startswith(f"rows {head.number - 1} to {head.number}: removed (a head signed ")


async def test_a_head_that_somebody_else_signed(kit: Kit) -> None:
    """Or that is none: the line is named, and nothing is signed."""
    await kit.person()
    head, token = await _sign(kit, [])
    forged = jose.SigningKey.generate().sign("inlay-audit-head+jwt", head)
    other = kit.portal.keys.root().sign(
        "inlay-audit-head+jwt", msgspec.structs.replace(head, iss="other.test")
    )
    assert await _told(kit, [token, forged, "nonsense", other]) == ["line 2", "line 3", "line 4"]
    with pytest.raises(AuditBroken):
        await _sign(kit, [forged])


async def test_a_broken_chain(kit: Kit) -> None:
    """Nothing is signed."""
    await kit.person()
    async with kit.database.write() as tx:
        await tx.execute(update(AuditEntry).where(AuditEntry.number == 1).values(actor="nobody"))
    with pytest.raises(AuditBroken) as caught:
        await _sign(kit, [])
    assert [str(fault) for fault in caught.value.report.faults] == ["row 1: changed"]


async def test_a_log_that_grew_fits_its_heads(kit: Kit) -> None:
    """Heads of before are of now, too."""
    _, first = await _sign(kit, [])
    await kit.person()
    head, second = await _sign(kit, [first])
    assert head.number >= 2
    assert (await _sign(kit, [first, second]))[0].number == head.number


async def test_a_portal_that_runs_exports_its_heads(kit: Kit, tmp_path: Path) -> None:
    """Each hour in which something was logged, to a file for its user alone."""
    file = tmp_path / "elsewhere" / "heads"
    export = HeadExport(kit.database, kit.portal.keys, kit.services.info.id, kit.clock, file)
    await export.run_due()
    assert await export.next_due() == kit.clock() + 3600
    await kit.person()
    await export.run_due()  # not due yet
    kit.clock.now += 3600
    await export.run_due()
    kit.clock.now += 3600
    await export.run_due()  # nothing was logged
    lines = recorded_in(file)
    assert len(lines) == 2
    assert file.stat().st_mode & 0o777 == 0o600
    assert await _told(kit, lines) == []


async def test_the_portal_begins_to_export_when_it_starts(kit: Kit, tmp_path: Path) -> None:
    """Beside its keys, where nothing else is configured."""
    found = recorded_in(tmp_path / "keys" / "audit-heads")
    assert len(found) == 1
    assert await _told(kit, found) == []

"""Saved options of scripts: every version is kept, the highest one counts, version 0 are the defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import select

from portal.errors import NotFound, StalePage
from portal.events import EXPIRY_MAILS
from portal.model import archive_options, card_options, virtual_card_options
from portal.store import audit
from portal.store.database import notify
from portal.store.tables import ScriptOptions

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.model.options import Script, Values

SCRIPTS: Final[dict[str, Script]] = {
    virtual_card_options.NAME: virtual_card_options.SCRIPT,
    archive_options.NAME: archive_options.SCRIPT,
    card_options.CARDS: card_options.CARDS_SCRIPT,
    card_options.TEMPORARY_CARDS: card_options.TEMPORARY_CARDS_SCRIPT,
    card_options.MOBILE_IDS: card_options.MOBILE_IDS_SCRIPT,
}
UNREAD: Final = frozenset({card_options.MOBILE_IDS})
"""Scripts that can be set and that no process of this version reads yet; their pages say so."""


class Saved(NamedTuple):
    """Options as they stand."""

    version: int
    values: Values
    saved_by: str | None = None
    saved_at: int | None = None


def script_of(name: str) -> Script:
    """The script of a name.

    Raises:
        NotFound: no such script.
    """
    if name not in SCRIPTS:
        raise NotFound("script")
    return SCRIPTS[name]


async def current(tx: AsyncSession, name: str) -> Saved:
    """The options that count now; options that came with a later version of the portal have their defaults."""
    script = script_of(name)
    query = select(ScriptOptions).where(ScriptOptions.script == name).order_by(ScriptOptions.version.desc())
    row = (await tx.execute(query.limit(1).with_for_update())).scalar_one_or_none()
    if row is None:
        return Saved(0, script.defaults())
    known = {option.name for option in script.options}
    stored = {key: value for key, value in row.options.items() if key in known}
    return Saved(row.version, script.check(stored), row.saved_by, row.saved_at)


async def versions(tx: AsyncSession, name: str, most: int) -> list[Saved]:
    """The versions that were saved, newest first, with what they held then; without the defaults.

    Raises:
        NotFound: no such script.
    """
    script_of(name)
    query = select(ScriptOptions).where(ScriptOptions.script == name).order_by(ScriptOptions.version.desc())
    rows = await tx.scalars(query.limit(most))
    return [Saved(row.version, row.options, row.saved_by, row.saved_at) for row in rows]


async def save(
    tx: AsyncSession, name: str, expected_version: int, values: Values, *, by: str, now: int
) -> Saved:
    """Save checked values as the next version.

    Raises:
        NotFound: no such script.
        StalePage: somebody else saved meanwhile.
    """
    last = await current(tx, name)
    if last.version != expected_version:
        raise StalePage(last.version)
    row = ScriptOptions(script=name, version=last.version + 1, options=values, saved_by=by, saved_at=now)
    tx.add(row)
    await tx.flush()
    changed = sorted(key for key, value in values.items() if last.values.get(key) != value)
    await audit.record(
        tx,
        at=now,
        actor=by,
        action="options.saved",
        kind="script",
        object_id=name,
        version=row.version,
        changed=changed,
    )
    notify(tx, EXPIRY_MAILS)  # on which days they are made
    return Saved(row.version, values, by, now)

"""An object's history, told from the audit log: what, who, when, why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import or_, select

from portal.staff.views import Event, Link, Timeline
from portal.store.tables import AuditEntry, Card, Certificate, Device
from protocol.errors import TABLE, InlayError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

PAGE: Final = 100
_DEVICE: Final = "device:"
_WHY: Final = ("note", "reason", "error", "why")
"""Where a row says why, the most telling first."""
WHAT: Final = {
    "archived_key.recovered": "Its encryption key was recovered on to a card",
    "archived_key.recovery_approved": "Recovery of its encryption key was agreed to",
    "archived_key.recovery_expired": "Recovery of its encryption key was not agreed to in time",
    "archived_key.recovery_refused": "Recovery of its encryption key was refused",
    "audit.verified": "The audit log was checked",
    "ca.crl_published": "The CA published a CRL",
    "ca.held": "Put on hold by the CA",
    "ca.issued": "Signed by the CA",
    "ca.released": "Taken off hold by the CA",
    "ca.retry_asked": "The CA was asked again",
    "ca.revoked": "Revoked by the CA",
    "card.deleted": "Deleted by its holder",
    "card.pin_changed": "Its PIN was changed",
    "card.read": "It was read in a reader",
    "card.pin_unblocked": "Its PIN was set anew by its PUK",
    "card.pin_verified": "Its holder's PIN was right",
    "card.puk_changed": "It was given another PUK",
    "card.puk_kept": "It was to get another PUK, takes none, and keeps the one that it has",
    "card.blocked": "Its PIN and PUK were made unusable",
    "certificate.hold_asked": "Hold asked for",
    "certificate.release_asked": "Release asked for",
    "certificate.released": "Released in the CA",
    "relation.made": "Related",
    "archived_key.delivered": "Its encryption key was taken from the archive",
    "archived_key.made": "Its encryption key was made and archived",
    "card.authenticated": "Authenticated to the portal",
    "card.attested": "Proved that it made its keys",
    "card.claimed": "Is said to have made its keys, and did not prove it",
    "card.encoded": "Got new keys and certificates",
    "card.prepared": "Made ready for whoever gets it",
    "batch.ordered": "Batch of cards ordered",
    "batch.closed": "Batch of cards closed",
    "card.picked": "It was picked by its number: it tells no serial number",
    "card.encoding": "New keys and certificates were asked for",
    "card.management_proved": "The portal proved the management key",
    "card.proved": "The card proved itself by its management key",
    "card.signed": "Signed a text",
    "card.pin_letter": "The letter with its PIN was printed",
    "card.puk_letter": "The letter with its PUK was printed",
    "card.puk_shown": "Its PUK was shown to an operator",
    "card.puk_delivered": "Its PUK was sent to its device",
    "card.registered": "Registered",
    "card.restored_file": "An old copy of its file was seen",
    "certificate.given_up": "The CA knows nothing of it: given up",
    "certificate.issued": "Issued by the CA",
    "certificate.refused": "Refused by the CA",
    "certificate.revocation_asked": "Revocation asked for",
    "key_set.published": "Key set published",
    "mail.added": "A mail about it was made ready",
    "mail.dropped": "A mail about it was dropped before it was sent",
    "mail.given_up": "A mail about it was given up",
    "mail.refused": "A mail about it was not sent",
    "mail.retry_asked": "A mail about it is tried again",
    "mail.sent": "A mail about it was sent",
    "objects.exported": "Search exported",
    "options.saved": "Options saved",
    "order.accepted": "The device's receipt was accepted",
    "order.bound": "The order was bound to the browser",
    "order.claim_refused": "A claim was refused",
    "order.claimed": "The order was claimed",
    "order.finished": "The order was finished",
    "order.settled": "The order came to its end: nothing of it is left to undo",
    "order.undone": "The order was undone",
    "process.cancelled": "Cancelled",
    "process.started": "Started",
    "process.step": "Moved on",
    "session.ended": "Logged out",
    "session.opened": "Logged in",
    "session.refused": "A log-in was refused",
    "user.added": "Added",
    "user.roles": "Roles changed",
    "user.state": "State changed",
}
"""What people read; a change of state is told by its states, an action without a sentence by its word."""


async def of_objects(
    tx: AsyncSession, ids: Collection[str], own: Iterable[str], before: int = 0, actor: str | None = None
) -> Timeline:
    """The history of some objects as one, newest first.

    Args:
        tx: a reading transaction.
        ids: whose rows are shown.
        own: those of them that are the page's own object, and need no name at each row.
        before: only rows before this number; 0 begins at the newest.
        actor: rows of this actor are shown as well.
    """
    about = AuditEntry.object_id.in_(ids)
    query = select(AuditEntry).where(about if actor is None else or_(about, AuditEntry.actor == actor))
    if before:
        query = query.where(AuditEntry.number < before)
    rows = list(await tx.scalars(query.order_by(AuditEntry.number.desc()).limit(PAGE + 1)))
    events = await told(tx, rows[:PAGE], frozenset(own))
    return Timeline(events, rows[PAGE - 1].number if len(rows) > PAGE else 0)


async def told(tx: AsyncSession, rows: Sequence[AuditEntry], own: frozenset[str]) -> list[Event]:
    """Rows of the audit log as people read them."""
    devices = await _devices(tx, {row.actor.removeprefix(_DEVICE) for row in rows if _by_device(row)})
    links = await _links(tx, [row for row in rows if row.object_id not in own])
    return [
        Event(
            number=row.number,
            at=row.at,
            what=_what(row),
            action=row.action,
            actor=_actor(row, devices),
            why=_why(row.details),
            details=_details(row),
            object=links.get(row.object_id),
        )
        for row in rows
    ]


async def _devices(tx: AsyncSession, thumbprints: set[str]) -> dict[str, str]:
    query = select(Device.jkt, Device.name).where(Device.jkt.in_(thumbprints))
    return {jkt: name for jkt, name in (await tx.execute(query))}


async def _links(tx: AsyncSession, rows: Sequence[AuditEntry]) -> dict[str, Link]:
    """What rows are about, named as people know it where it has a name."""
    ids = {row.object_id for row in rows}
    links = {row.object_id: Link(row.kind, row.object_id, row.kind.replace("_", " ")) for row in rows}
    cards = select(Card.id, Card.kind, Card.label).where(Card.id.in_(ids))
    for key, kind, label in await tx.execute(cards):
        links[key] = Link(kind, key, label)
    certificates = select(Certificate.id, Certificate.profile).where(Certificate.id.in_(ids))
    for key, profile in await tx.execute(certificates):
        links[key] = Link("certificate", key, f"certificate for {profile}")
    return links


def _what(row: AuditEntry) -> str:
    before, after = row.details.get("before"), row.details.get("after")
    if row.action.endswith(".state") and isinstance(before, str) and isinstance(after, str):
        return f"From {before} to {after}"
    return WHAT.get(row.action, row.action)


def _by_device(row: AuditEntry) -> bool:
    return row.actor.startswith(_DEVICE)


def _actor(row: AuditEntry, devices: Mapping[str, str]) -> str:
    if not _by_device(row):
        return row.actor
    thumbprint = row.actor.removeprefix(_DEVICE)
    return f"device {devices.get(thumbprint, thumbprint)}"


def _why(details: Mapping[str, object]) -> str:
    told = [value for name in _WHY if isinstance(value := details.get(name), str) and value]
    if not told:
        return ""
    return InlayError(told[0]).happened if told[0] in TABLE else told[0]


def _details(row: AuditEntry) -> tuple[tuple[str, str], ...]:
    said = {*_WHY, *(("before", "after") if row.action.endswith(".state") else ())}
    return tuple(
        (name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in sorted(row.details.items())
        if name not in said and value not in ("", [])
    )

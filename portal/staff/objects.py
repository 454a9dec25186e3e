"""Objects as staff see them: facts, relations, certificates, and what belongs to their history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, or_, select

from portal import card_views
from portal.errors import NotFound
from portal.processes import card_orders, certificates, tasks
from portal.processes.ca_changes import PENDING, Change
from portal.staff import timeline
from portal.staff.times import moment
from portal.staff.views import Fact, Link, ObjectView, Relation
from portal.store.database import model_of
from portal.store.tables import (
    Card,
    Certificate,
    Device,
    KnownDevice,
    ManagedCard,
    ObjectRelation,
    Order,
    Process,
    Revocation,
    User,
)
from protocol.errors import InlayError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.views import CertificateView

_MOST_RELATED: Final = 200
_CARD_KINDS: Final = {
    "virtual_smart_card": "Virtual smart card",
    "temporary_card": "Temporary card",
    "card": "Card",
    "mobile_id": "Mobile ID",
}
TITLES: Final = _CARD_KINDS | {
    "user": "User",
    "certificate": "Certificate",
    "device": "Device",
    "process": "Process",
}


@dataclass(slots=True)
class Found:
    """What a kind's loader gathers.

    Attributes:
        title: what the object is called.
        state: its state, or empty.
        facts: lines of its page.
        ids: other ids whose history belongs to it.
        actor: the audit log's name of it, where it acts itself.
    """

    title: str
    state: str = ""
    facts: list[Fact] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    certificates: list[CertificateView] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    actor: str | None = None


Loader = Callable[["AsyncSession", str], Awaitable[Found]]


async def view(tx: AsyncSession, kind: str, key: str, before: int = 0) -> ObjectView:
    """An object.

    Args:
        tx: a reading transaction.
        kind: kind of object.
        key: its id.
        before: the part of its history before this row; 0 is the newest.

    Raises:
        NotFound: no such kind, or no such object.
    """
    if kind not in LOADERS:
        raise NotFound("kind")
    found = await LOADERS[kind](tx, key)
    return ObjectView(
        object=Link(kind, key, found.title),
        kind_title=TITLES[kind],
        state=found.state,
        facts=found.facts,
        timeline=await timeline.of_objects(tx, [key, *found.ids], [key], before, found.actor),
        relations=await _relations(tx, kind, key),
        certificates=found.certificates,
        notices=found.notices,
    )


async def _get(tx: AsyncSession, table: type[Any], key: str, kind: str) -> Any:
    row = await tx.get(table, key)
    if row is None:
        raise NotFound(kind)
    return row


async def _user(tx: AsyncSession, key: str) -> Found:
    user: User = await _get(tx, User, key, "user")
    cards = await tx.scalars(
        select(Card).where(Card.owner_id == key).order_by(Card.created_at.desc()).limit(_MOST_RELATED)
    )
    devices = await tx.scalars(
        select(Device).join(KnownDevice, KnownDevice.jkt == Device.jkt).where(KnownDevice.user_id == key)
    )
    return Found(
        title=user.email,
        state=user.state,
        facts=[
            Fact("Name", user.name),
            Fact("E-mail address", user.email),
            Fact("Roles", ", ".join(user.roles) or "none"),
            Fact("Added", moment(user.created_at)),
            *(
                Fact(_CARD_KINDS[row.kind], f"{row.label} ({row.state})", Link(row.kind, row.id, row.label))
                for row in cards
            ),
            *(Fact("Device", row.name, Link("device", row.jkt, row.name)) for row in devices),
        ],
    )


def _card(kind: str) -> Loader:
    async def load(tx: AsyncSession, key: str) -> Found:
        card: Card = await _get(tx, Card, key, kind)
        if card.kind != kind:
            raise NotFound(kind)
        found = Found(card.label, card.state, await _card_facts(tx, card))
        rows = await certificates.of_card(tx, card)
        found.certificates = await card_views.certificate_views(tx, rows)
        orders = list(await tx.scalars(select(Order).where(Order.card_id == key)))
        found.ids = [view.id for view in found.certificates]
        found.ids += [order.jti for order in orders] + [order.process_id for order in orders]
        found.ids += await _processes_on(tx, kind, key)
        if card.restored_at is not None:
            found.notices.append(
                "This card's file is older than one that was seen before: an old copy was put back. Replace the card."
            )
        return found

    return load


async def _processes_on(tx: AsyncSession, kind: str, key: str) -> list[str]:
    """Ids of the processes that work or worked on an object."""
    query = select(Process.id).where(Process.target_kind == kind, Process.target_id == key)
    return list(await tx.scalars(query.order_by(Process.created_at.desc()).limit(_MOST_RELATED)))


async def _card_facts(tx: AsyncSession, card: Card) -> list[Fact]:
    facts = [
        await _person("Holder", tx, card.owner_id),
        Fact("Serial", card.serial),
        *_made_by(card),
        *await _proves_itself(tx, card),
        Fact("Valid until", moment(card.valid_until)),
        Fact("Made", moment(card.created_at)),
        Fact("Changed", moment(card.changed_at)),
        Fact("Keys kept", f"{_place(card)}, {'attested' if card.attested else 'as claimed'}"),
        Fact("PUK", "kept by the portal, encrypted" if card.sealed_puk else "not kept by the portal"),
    ]
    device = await tx.get(Device, card.device_jkt) if card.device_jkt else None
    if device is not None:
        facts.append(Fact("Device", device.name, Link("device", device.jkt, device.name)))
    return facts


def _made_by(card: Card) -> list[Fact]:
    """What a card is called on the wire, and what kind of card it is where that isn't the only one."""
    named = Fact("GUID", card_orders.guid_of(card))
    return [named] if card.described_by is None else [named, Fact("Kind of card", card.described_by)]


async def _proves_itself(tx: AsyncSession, card: Card) -> list[Fact]:
    """Whether a card in a reader shows that it is the one, or can only say so; nothing before it was encoded."""
    managed = await tx.get(ManagedCard, card.id)
    if managed is None or managed.encoded_for is None:
        return []
    if not managed.mutual:
        return [Fact("Proves itself", "can't: a card made to look like it would be taken for it")]
    last = "" if managed.proved_at is None else f"; last on {moment(managed.proved_at)}"
    return [Fact("Proves itself", f"by its management key, before it is told or given anything{last}")]


def _place(card: Card) -> str:
    """Where a card's keys are: what was told of a virtual one; a physical one has them itself."""
    return "on the card" if card.kind in tasks.PHYSICAL else card.storage or "unknown"


async def _certificate(tx: AsyncSession, key: str) -> Found:
    row: Certificate = await _get(tx, Certificate, key, "certificate")
    waits = await tx.get(Revocation, key)
    found = Found(
        title=row.serial,
        state=row.state,
        facts=[
            await _person("Owner", tx, row.owner_id),
            Fact("Profile", row.profile),
            Fact("Subject", row.subject),
            Fact("Issuer", row.issuer),
            Fact("Serial number", row.serial),
            Fact("Valid from", moment(row.not_before)),
            Fact("Expires", moment(row.not_after)),
            Fact("In the CA", row.ca_state),
            Fact("Slot and algorithm", f"{row.slot}, {row.algorithm}"),
            Fact("Key", "made by the portal" if row.key_source == "import" else "made on the card"),
            Fact("Key in the archive", "no" if row.archived_key_id is None else "yes"),
        ],
        ids=[row.request_id, row.serial, *await _processes_on(tx, "certificate", key)],
        certificates=await card_views.certificate_views(tx, [row]),
    )
    if row.revocation_reason:
        found.facts.append(Fact("Reason of the revocation", row.revocation_reason))
    if waits is not None:
        found.notices.append(
            f"{PENDING[Change(waits.change)].capitalize()} since {moment(waits.created_at)}: "
            f"the CA has not confirmed it yet. "
            f"Tries so far: {waits.tries}; the next one at {moment(waits.next_try_at)}."
        )
    if row.order_jti is not None and (order := await tx.get(Order, row.order_jti)) is not None:
        found.facts.append(
            Fact(
                "Requested by",
                "a process",
                Link("process", order.process_id, "the process that requested it"),
            )
        )
    return found


async def _device(tx: AsyncSession, key: str) -> Found:
    device: Device = await _get(tx, Device, key, "device")
    users = await tx.scalars(
        select(User).join(KnownDevice, KnownDevice.user_id == User.id).where(KnownDevice.jkt == key)
    )
    cards = await tx.scalars(select(Card).where(Card.device_jkt == key).limit(_MOST_RELATED))
    return Found(
        title=device.name,
        facts=[
            Fact("Platform", device.platform),
            Fact("Inlay", device.agent_version),
            Fact("Key", device.jkt),
            Fact("First seen", moment(device.first_seen_at)),
            Fact("Last seen", moment(device.last_seen_at)),
            *(Fact("Known to", user.email, Link("user", user.id, user.email)) for user in users),
            *(
                Fact(_CARD_KINDS[card.kind], card.label, Link(card.kind, card.id, card.label))
                for card in cards
            ),
        ],
        actor=f"device:{key}",
    )


async def _process(tx: AsyncSession, key: str) -> Found:
    process: Process = await _get(tx, Process, key, "process")
    orders = list(await tx.scalars(select(Order).where(Order.process_id == key)))
    found = Found(
        title=process.name,
        state=process.state,
        facts=[
            await _person("Started by", tx, process.user_id),
            *([await _person("About", tx, process.subject_id)] if process.subject_id else []),
            *([await _person("Agreed to by", tx, process.approved_by)] if process.approved_by else []),
            *([await _target(tx, process.target_kind, process.target_id)] if process.target_id else []),
            Fact("Step", process.step),
            Fact("Started", moment(process.created_at)),
            Fact("Changed", moment(process.changed_at)),
        ],
        ids=[order.jti for order in orders],
    )
    for order in orders:
        found.facts.append(Fact("Order", f"{order.operation}: {order.state}"))
        if order.card_id is not None and (card := await tx.get(Card, order.card_id)) is not None:
            found.facts.append(Fact("Card", card.label, Link(card.kind, card.id, card.label)))
    if process.error is not None:
        error = InlayError(process.error["error"], **process.error["fields"])
        found.notices.append(f"{error.happened} {error.why}")
    return found


async def _person(label: str, tx: AsyncSession, key: str) -> Fact:
    user = await tx.get_one(User, key)
    return Fact(label, f"{user.name}, {user.email}", Link("user", user.id, user.email))


async def _target(tx: AsyncSession, kind: str | None, key: str) -> Fact:
    title, state = await _named(tx, kind or "", key)
    link = Link(kind, key, title) if kind in LOADERS else None
    return Fact("Object", f"{title} ({state})" if state else title, link)


async def _relations(tx: AsyncSession, kind: str, key: str) -> list[Relation]:
    """Both directions, each other object with its name and state."""
    query = select(ObjectRelation).where(
        or_(
            and_(ObjectRelation.from_kind == kind, ObjectRelation.from_id == key),
            and_(ObjectRelation.to_kind == kind, ObjectRelation.to_id == key),
        )
    )
    rows = list(await tx.scalars(query.order_by(ObjectRelation.created_at).limit(_MOST_RELATED)))
    related = []
    for row in rows:
        outgoing = (row.from_kind, row.from_id) == (kind, key)
        other_kind, other_id = (row.to_kind, row.to_id) if outgoing else (row.from_kind, row.from_id)
        title, state = await _named(tx, other_kind, other_id)
        words = model_of(tx).relations.words(row.relation, outgoing=outgoing)
        related.append(Relation(row.relation, words, Link(other_kind, other_id, title), state))
    return related


async def _named(tx: AsyncSession, kind: str, key: str) -> tuple[str, str]:
    """What an object is called, and its state; its kind and id for one that isn't here any more."""
    match kind:
        case "certificate":
            certificate = await tx.get(Certificate, key)
            if certificate is not None:
                return f"Certificate for {certificate.profile}", certificate.state
        case "user":
            user = await tx.get(User, key)
            if user is not None:
                return user.email, user.state
        case _:
            card = await tx.get(Card, key)
            if card is not None:
                return card.label, card.state
    return f"{kind} {key}", ""


LOADERS: Final[dict[str, Loader]] = {
    "user": _user,
    "certificate": _certificate,
    "device": _device,
    "process": _process,
    **{kind: _card(kind) for kind in _CARD_KINDS},
}

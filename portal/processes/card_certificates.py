"""The certificates of a card: which are related to it, which new ones supersede, which can be recovered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from portal.ca.authority import Reason
from portal.ca.x509 import key_hash
from portal.processes import certificates
from portal.store.tables import Card, Certificate, ObjectRelation
from protocol.errors import InlayError
from protocol.messages import Purpose

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.store.tables import Order


async def related(tx: AsyncSession, card: Card) -> list[Certificate]:
    """The certificates that are related to a card, whatever the relation's type, newest first."""
    ids = select(ObjectRelation.to_id).where(
        ObjectRelation.from_kind == card.kind,
        ObjectRelation.from_id == card.id,
        ObjectRelation.to_kind == "certificate",
    )
    query = select(Certificate).where(Certificate.id.in_(ids))
    query = query.order_by(Certificate.not_before.desc(), Certificate.created_at.desc(), Certificate.id)
    return list(await tx.scalars(query))


async def recoverable(tx: AsyncSession, card: Card) -> list[Certificate]:
    """The card's encryption certificates whose keys the archive has, newest first, in whatever state they are.

    An expired or superseded one is not for new messages; its key still opens the old ones.
    """
    return [
        item
        for item in await related(tx, card)
        if item.profile == Purpose.ENCRYPTION and item.archived_key_id is not None
    ]


async def earlier(tx: AsyncSession, card: Card, keeps: Collection[str] = ()) -> list[Certificate]:
    """The holder's encryption certificates whose keys the archive has, of whatever card and in whatever state.

    Those of tasks that ended in an error are left out: nothing was ever encrypted for them.

    Args:
        tx: a transaction.
        card: whose holder.
        keeps: hashes of keys that aren't looked for: the card has them.

    Returns:
        One of each key, newest first.
    """
    related = select(ObjectRelation.to_id).where(ObjectRelation.to_kind == "certificate")
    query = select(Certificate).where(
        Certificate.owner_id == card.owner_id,
        Certificate.profile == Purpose.ENCRYPTION.value,
        Certificate.archived_key_id.is_not(None),
        Certificate.id.in_(related),
    )
    query = query.order_by(Certificate.not_before.desc(), Certificate.created_at.desc(), Certificate.id)
    found: dict[str, Certificate] = {}
    for item in await tx.scalars(query):
        if item.key_hash not in keeps:
            found.setdefault(item.key_hash, item)
    return list(found.values())


async def check_kept(tx: AsyncSession, card_id: str | None, keys: Mapping[str, bytes]) -> None:
    """Check that keys which a card is to keep are those that it had certificates for.

    Args:
        tx: a transaction.
        card_id: the card.
        keys: slot to the public key that its device has told, SubjectPublicKeyInfo (DER).

    Raises:
        InlayError: ``request_invalid``: it is another key.
    """
    card = await tx.get(Card, card_id) if card_id is not None else None
    known = [] if card is None else await related(tx, card)
    for slot, key in keys.items():
        if key_hash(key) not in {item.key_hash for item in known if item.slot == slot}:
            raise InlayError("request_invalid", slot=slot)


async def check_made(tx: AsyncSession, holder_id: str, keys: Mapping[str, bytes]) -> None:
    """Check that keys which were just made are nobody else's: a card whose random generator is none makes them again.

    Args:
        tx: a transaction.
        holder_id: whose card it is.
        keys: slot to public key, SubjectPublicKeyInfo (DER).

    Raises:
        InlayError: ``key_of_another``: whoever has the other card could sign and decrypt as this person.
    """
    for slot, key in keys.items():
        query = select(Certificate.id).where(
            Certificate.key_hash == key_hash(key), Certificate.owner_id != holder_id
        )
        if (await tx.execute(query.limit(1))).first() is not None:
            raise InlayError("key_of_another", slot=slot)


async def supersede(
    tx: AsyncSession, card: Card, order: Order, slots: Collection[str], actor: str, now: int
) -> None:
    """Have the certificates revoked that these keys of a card had before an order gave them new ones.

    An order that may reset the card may have erased every other key, too.
    """
    erased = bool(order.parameters.get("reset"))
    for item in await certificates.of_card(tx, card, lock=True):
        if (erased or item.slot in slots) and item.order_jti != order.jti:
            await certificates.enqueue_revocation(tx, item, Reason.SUPERSEDED, actor, now)


async def revoke_all(
    tx: AsyncSession, card: Card, but: Collection[str], reason: Reason, actor: str, now: int
) -> None:
    """Have all certificates of a card revoked but some, by their ids."""
    for item in await certificates.of_card(tx, card, lock=True):
        if item.id not in but:
            await certificates.enqueue_revocation(tx, item, reason, actor, now)

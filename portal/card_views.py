"""Cards and their certificates as pages see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, or_, select

from portal.model.states import OF_CARDS, CardState, CaState, TemporaryCardState, certificate_state
from portal.processes import card_orders, certificates
from portal.processes.ca_changes import Change
from portal.store.tables import Card, Certificate, Device, Revocation
from portal.store.transitions import is_final
from portal.views import CardView, CertificateView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.ext.asyncio import AsyncSession

_WITH_HOLDER: Final = (CardState.ISSUED.value, CardState.ACTIVE.value, CardState.INACTIVE.value)


async def of_owner(tx: AsyncSession, owner_id: str) -> list[CardView]:
    """The cards that a person has: their virtual ones, those issued and those assigned to them; newest first."""
    virtual = Card.kind == "virtual_smart_card"
    assigned = and_(Card.kind == "temporary_card", Card.state == TemporaryCardState.ASSIGNED.value)
    issued = and_(Card.kind == "card", Card.state.in_(_WITH_HOLDER))
    query = select(Card).where(Card.owner_id == owner_id, or_(virtual, assigned, issued))
    cards = await tx.scalars(query.order_by(Card.created_at.desc(), Card.id))
    return [await _card(tx, card) for card in cards]


async def one(tx: AsyncSession, card_id: str) -> CardView | None:
    """A card; None when there is none of this id."""
    card = await tx.get(Card, card_id)
    return None if card is None else await _card(tx, card)


async def _card(tx: AsyncSession, card: Card) -> CardView:
    device = await tx.get(Device, card.device_jkt) if card.device_jkt else None
    return CardView(
        id=card.id,
        label=card.label,
        serial=card.serial,
        guid=card_orders.guid_of(card),
        state=type(OF_CARDS[card.kind].start)(card.state),
        storage=card.storage,
        attested=card.attested,
        device=device.name if device else "",
        valid_until=card.valid_until,
        created_at=card.created_at,
        certificates=await certificate_views(tx, await certificates.of_card(tx, card)),
        restored=card.restored_at is not None,
        kind=card.kind,
    )


async def certificate_views(tx: AsyncSession, rows: list[Certificate]) -> list[CertificateView]:
    """Certificates as pages see them, with what waits for the CA: those in use first, then those at their end."""
    pending = select(Revocation.certificate_id, Revocation.change).where(
        Revocation.certificate_id.in_([row.id for row in rows])
    )
    ordered = sorted(rows, key=lambda row: (is_final(tx, row), row.slot, -row.not_before))
    return _views(ordered, {row.certificate_id: row.change for row in await tx.execute(pending)})


def _views(rows: Iterable[Certificate], pending: dict[str, str]) -> list[CertificateView]:
    return [
        CertificateView(
            id=row.id,
            purpose=row.profile,
            slot=row.slot,
            algorithm=row.algorithm,
            serial=row.serial,
            subject=row.subject,
            issuer=row.issuer,
            not_before=row.not_before,
            not_after=row.not_after,
            state=certificate_state(row.state),
            ca_state=CaState(row.ca_state),
            revocation_pending=pending.get(row.id) == Change.REVOKE,
            waits_for=pending.get(row.id, ""),
            recoverable=row.archived_key_id is not None,
        )
        for row in rows
    ]

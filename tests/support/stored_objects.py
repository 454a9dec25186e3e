"""Objects put straight into a portal's database, for tests that don't need an agent to have made them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from portal.model.states import CaState, CertificateState, VirtualSmartCardState
from portal.store.tables import Card, Certificate

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.portal_kit import Kit


async def put_card(
    kit: Kit, owner: Session, state: VirtualSmartCardState = VirtualSmartCardState.ACTIVE
) -> str:
    """A virtual smart card without certificates; its id."""
    now = kit.clock()
    card = Card(
        id=secrets.token_hex(16),
        kind="virtual_smart_card",
        owner_id=owner.user.id,
        label=f"Card of {owner.user.email}",
        serial="12345678",
        guid=secrets.token_hex(16),
        state=state.value,
        storage="keystore",
        attested=False,
        valid_until=now + 86_400,
        created_at=now,
        changed_at=now,
    )
    async with kit.database.write() as tx:
        tx.add(card)
    return card.id


async def put_certificate(
    kit: Kit, owner: Session, state: CertificateState = CertificateState.VALID, profile: str = "signature"
) -> str:
    """A certificate that belongs to no order; its id."""
    now = kit.clock()
    certificate = Certificate(
        id=secrets.token_hex(16),
        request_id=secrets.token_hex(16),
        owner_id=owner.user.id,
        profile=profile,
        slot="9C",
        algorithm="P-256",
        key_source="generate",
        key_hash=secrets.token_hex(32),
        issuer="CN=Example CA",
        serial=secrets.token_hex(16),
        subject="CN=Ada Example",
        not_before=now,
        not_after=now + 86_400,
        der=b"",
        state=state.value,
        ca_state=CaState.GOOD.value,
        created_at=now,
        changed_at=now,
    )
    async with kit.database.write() as tx:
        tx.add(certificate)
    return certificate.id


async def state_of_card(kit: Kit, card_id: str) -> str:
    """The state a card is in now."""
    async with kit.database.read() as tx:
        return (await tx.get_one(Card, card_id)).state


async def state_of_certificate(kit: Kit, certificate_id: str) -> str:
    """The state a certificate is in now."""
    async with kit.database.read() as tx:
        return (await tx.get_one(Certificate, certificate_id)).state

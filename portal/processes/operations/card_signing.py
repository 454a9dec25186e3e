"""What the operations *authenticate* and *sign* have in common: whose key it has to be, and what is kept of it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final, NamedTuple

from portal.ca.x509 import facts
from portal.card_signatures import verifies
from portal.model.states import CardState, CaState, TemporaryCardState, VirtualSmartCardState
from portal.processes import card_certificates, card_orders, order_rows, tasks
from portal.store import audit, objects
from portal.store.database import model_of
from portal.store.tables import Card
from protocol.errors import DecodeError, InlayError

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import Authenticate, CardSignature, Receipt, Sign

SIGNATURE: Final = "signature"
"""Process variable: algorithm, signature and certificate as base64, and the certificate's serial number."""


class Takes(NamedTuple):
    """Whose signature counts: the states of the card, and of its certificate in the CA."""

    card: frozenset[str]
    ca: frozenset[CaState]


IN_USE: Final = Takes(
    frozenset(
        {CardState.ACTIVE.value, TemporaryCardState.ASSIGNED.value, VirtualSmartCardState.ACTIVE.value}
    ),
    frozenset({CaState.GOOD}),
)
ISSUED: Final = Takes(frozenset({CardState.ISSUED.value}), frozenset({CaState.HELD, CaState.GOOD}))
"""A card that its holder is going to activate: until then its certificates are on hold."""


async def accept(
    context: Context,
    tx: AsyncSession,
    order: Order,
    ordered: Authenticate | Sign,
    receipt: Receipt,
    *,
    slot: str,
    digest: bytes,
    takes: Takes = IN_USE,
) -> Card:
    """Check that a receipt's signature is of the ordered card's key, whose certificate is good, and keep it.

    Args:
        context: the clock.
        tx: a writing transaction.
        order: the order.
        ordered: its parameters.
        receipt: the receipt.
        slot: the key that has to have signed.
        digest: what was to be signed, SHA-256.
        takes: the states that count.

    Returns:
        The card, locked for this transaction.

    Raises:
        InlayError: ``proof_invalid``, ``card_certificate_unusable``, ``card_ended``, ``user_not_active``.
        DecodeError: ``params_invalid``.
    """
    await order_rows.check_person(tx, order)
    card = await tx.get_one(Card, ordered.card, with_for_update=True, populate_existing=True)
    signature = _signature_in(receipt, card)
    if card.state not in takes.card:
        raise InlayError("card_ended", state=card.state.lower())
    await _check_certificate(tx, card, signature.certificate, slot, context.clock(), takes.ca)
    if not verifies(signature, digest):
        raise InlayError("proof_invalid", slot=slot)
    card.generation = max(card.generation or 0, receipt.generation)
    await tasks.set_variables(tx, order, {SIGNATURE: _kept(signature)})
    return card


def _signature_in(receipt: Receipt, card: Card) -> CardSignature:
    """The one thing that such a receipt proves."""
    if receipt.guid != card_orders.guid_of(card):
        raise DecodeError("params_invalid", "$.guid")
    if receipt.proofs or receipt.signature is None:
        raise DecodeError("params_invalid", "$.signature")
    return receipt.signature


def _kept(signature: CardSignature) -> dict[str, Any]:
    """A signature as the process keeps it."""
    return {
        "algorithm": signature.algorithm,
        "signature": base64.b64encode(signature.signature).decode(),
        "certificate": base64.b64encode(signature.certificate).decode(),
        "serial": facts(signature.certificate).serial,
    }


async def note(context: Context, tx: AsyncSession, order: Order, card_id: str, *, action: str) -> None:
    """That it was done is in the card's history."""
    card = await tx.get_one(Card, card_id)
    await audit.record(
        tx,
        at=context.clock(),
        actor=f"device:{order.device_jkt}",
        action=action,
        kind=objects.kind_of(card).value,
        object_id=card.id,
        order=order.jti,
    )


async def _check_certificate(
    tx: AsyncSession, card: Card, der: bytes, slot: str, now: int, ca: frozenset[CaState]
) -> None:
    """It must be one that this portal has for the card, valid at the portal and not revoked by the CA."""
    for known in await card_certificates.related(tx, card):
        if known.der == der and known.slot == slot:
            graph = model_of(tx).certificates.graph(known.profile)
            good = known.state == graph.valid and known.ca_state in ca
            if good and known.not_before <= now < known.not_after:
                return
    raise InlayError("card_certificate_unusable", slot=slot)

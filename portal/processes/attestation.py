"""Attestations in orders: what a card states of the keys that an order has it make, judged before anything is issued.

A card counts as attested when all keys that it has, and that weren't brought to it, are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from portal.ca import attestation
from portal.ca.attestation import Expected
from portal.model.states import CaState
from portal.processes import card_certificates, tasks
from portal.store import audit
from portal.store.tables import CaIntent, Card
from protocol.errors import DecodeError, InlayError
from protocol.messages import EncodeCard, KeySource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import CreateVirtualCard, Requests

_LONGEST_SERIAL: Final = 20


def check_makers(context: Context) -> None:
    """See that there is somebody whose word counts.

    Raises:
        InlayError: ``attestation_no_roots``.
    """
    if not context.roots:
        raise InlayError("attestation_no_roots")


def check_possible(context: Context, card: Card) -> None:
    """See that a card which has to be attested can be judged at all.

    Raises:
        InlayError: ``attestation_no_roots``, ``attestation_no_serial``.
    """
    check_makers(context)
    if _serial(card) is None:
        raise InlayError("attestation_no_serial")


async def judge(
    context: Context,
    tx: AsyncSession,
    ordered: CreateVirtualCard | EncodeCard,
    requests: Requests,
    keys: Mapping[str, bytes],
) -> dict[str, str]:
    """Judge the attestations that came with requests.

    Args:
        context: whom the administrator trusts.
        tx: to look at the card.
        ordered: what was ordered.
        requests: what came.
        keys: slot to the key that it was requested a certificate for, SubjectPublicKeyInfo.

    Returns:
        Slot to the firmware version of the card, of each key that is attested. Where nothing can be judged by, none is:
        what came is a claim.

    Raises:
        DecodeError: ``params_invalid``: one came that nobody asked for, or without the certificate of its signer.
        InlayError: ``attestation_…``.
    """
    stated = _stated(ordered, requests)
    if not isinstance(ordered, EncodeCard) or ordered.attest == "no":
        return {}
    card = await tx.get_one(Card, ordered.card)
    if ordered.attest == "required":
        check_possible(context, card)
        _check_all(ordered, card, stated)
    serial = _serial(card)
    if not context.roots or serial is None or requests.attestation_issuer is None:
        return {}
    issuer, now = requests.attestation_issuer, context.clock()
    wanted = {key.slot: (key.pin_policy, key.touch_policy) for key in ordered.keys}
    return {
        slot: attestation.verify(
            statement, issuer, Expected(slot, keys[slot], serial, *wanted[slot]), context.roots, now
        )
        for slot, statement in stated.items()
    }


def _stated(ordered: CreateVirtualCard | EncodeCard, requests: Requests) -> Mapping[str, bytes]:
    """Slot to the attestation that came of its key: of those alone that were asked for."""
    asked = isinstance(ordered, EncodeCard) and ordered.attest != "no"
    made = _slots(ordered, KeySource.GENERATE) if asked else frozenset()
    stated = {item.slot: item.attestation for item in requests.requests if item.attestation is not None}
    if not stated.keys() <= made:
        raise DecodeError("params_invalid", "$.requests")
    if (requests.attestation_issuer is not None) != bool(stated):
        raise DecodeError("params_invalid", "$.attestation_issuer")
    return stated


def _check_all(ordered: EncodeCard, card: Card, stated: Mapping[str, bytes]) -> None:
    """See that none of the card's keys is a claim alone."""
    kept = frozenset() if card.attested else _slots(ordered, KeySource.KEEP)
    unproved = _slots(ordered, KeySource.GENERATE) - stated.keys() | kept
    if unproved:
        raise InlayError("attestation_missing", slot=min(unproved))


def _slots(ordered: CreateVirtualCard | EncodeCard, source: KeySource) -> frozenset[str]:
    return frozenset(key.slot for key in ordered.keys if key.source is source)


async def settle(tx: AsyncSession, card: Card, order: Order, actor: str, now: int) -> None:
    """Note whether a card that was encoded is attested, by what was judged when its keys came."""
    intents = await tx.scalars(select(CaIntent.request).where(CaIntent.order_jti == order.jti))
    requested = {request["slot"]: request for request in intents}
    made = {slot: item for slot, item in requested.items() if item["key_source"] == "generate"}
    attested = {slot: item["attested_by"] for slot, item in made.items() if item.get("attested_by")}
    stays = any(item["key_source"] == "keep" for item in requested.values())
    stays = stays or await _has_others(tx, card, order)
    card.attested = attested.keys() == made.keys() and (card.attested if stays else bool(made))
    if made:
        await audit.record(
            tx,
            at=now,
            actor=actor,
            action="card.attested" if attested.keys() == made.keys() else "card.claimed",
            kind=card.kind,
            object_id=card.id,
            order=order.jti,
            slots=sorted(attested or made),
            firmware=sorted(set(attested.values())),
        )


async def _has_others(tx: AsyncSession, card: Card, order: Order) -> bool:
    """Whether it has keys that were made on it, and that the order didn't name."""
    named = {item.slot for item in tasks.plan_of(order).certificates}
    return any(
        item.slot not in named and item.key_source != "import" and item.ca_state == CaState.GOOD
        for item in await card_certificates.related(tx, card)
    )


def _serial(card: Card) -> int | None:
    """A card's serial number as the portal has it; None where that is no decimal number."""
    told = card.serial
    return int(told) if told.isascii() and told.isdecimal() and len(told) <= _LONGEST_SERIAL else None

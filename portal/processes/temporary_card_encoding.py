"""What a temporary card gets when it is encoded: told by the options, and by whose keys are on it already."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from portal.model.states import CaState
from portal.processes import (
    blocked_cards,
    card_certificates,
    card_orders,
    certificates,
    earlier_keys,
    temporary_cards,
)
from portal.store.database import model_of
from portal.store.tables import ManagedCard, Order, Process
from protocol.messages import CardIdentity, KeySource, ManagementAlgorithm, ManagementKey, Purpose, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.temporary_cards import Options
    from portal.store.tables import Card, Certificate
    from protocol.messages import KeyOrder

OWN_KEY: Final = (ManagementAlgorithm.AES_192, ManagementAlgorithm.TRIPLE_DES)
"""Of the management key that a card gets, the first that it takes: some know 3DES alone."""
_RESUME_WITHIN: Final = 3600
_SLOTS: Final = frozenset({"9A", "9C", "9D", "9E"})
_PRINTED: Final = re.compile(r"[!-~]([ -~]{0,38}[!-~])?")
"""As ``protocol.messages.CardIdentity.printed``."""
_NEW_ENCRYPTION_KEY: Final = {
    "no": KeySource.GENERATE,
    "where_possible": KeySource.IMPORT_IF_POSSIBLE,
    "required": KeySource.IMPORT,
}
_ATTEST: Final = {
    "no": "not asked for",
    "where_possible": "the card proves that it made its keys, if it can",
    "required": "the card has to prove that it made its keys",
}
_ENCRYPTION_KEY: Final = {
    KeySource.GENERATE: "made on this card alone; what it encrypts is lost with the card",
    KeySource.IMPORT_IF_POSSIBLE: "kept in the portal's archive; a card that takes no such key makes one itself, and "
    "what that encrypts is lost with the card",
    KeySource.IMPORT: "kept in the portal's archive, so that old messages can be read without the card",
    KeySource.KEEP: "stays as it is",
}


async def encoding_of(tx: AsyncSession, card: Card, options: Options, now: int) -> dict[str, Any]:
    """The process variables of an encoding.

    A card that nobody's keys are on, or somebody else's (an order of theirs may have ended half done), is encoded from
    the beginning: a new PIN, new keys, and a GUID by which no program takes it for what it was. So is one whose PIN and
    PUK are blocked, which is reset for it.
    """
    managed = await tx.get(ManagedCard, card.id)
    blocked = card.driver != "pkcs11" and await blocked_cards.is_blocked(tx, card)
    others = managed is None or managed.encoded_for != card.owner_id
    fresh = others or blocked or await temporary_cards.was_changed_for_another(tx, card)
    sources = {purpose: KeySource.GENERATE for purpose in Purpose}
    unproved = options.attest == "required" and not card.attested
    if not fresh and not options.new_keys and not unproved:
        sources |= dict.fromkeys(await _certified(tx, card), KeySource.KEEP)
    if sources[Purpose.ENCRYPTION] is KeySource.GENERATE:
        sources[Purpose.ENCRYPTION] = _NEW_ENCRYPTION_KEY[options.recoverable]
    found: dict[str, Any] = {
        **await _earlier(tx, card, options, sources, now),
        "first": fresh,
        # a token may have been another card object's before, which has ended; what isn't there needn't go
        "clear_retired": fresh and (card.driver == "pkcs11" or await _had_others(tx, card)),
        "blocked": blocked,
        **_card_parts(card, managed, fresh=fresh, blocked=blocked),
        "purposes": [purpose.value for purpose in Purpose if purpose in options.purposes],
        "keys": keys_text([sources[purpose] for purpose in options.purposes], fresh=fresh),
        "resume_within": _RESUME_WITHIN,
        "attest": "no" if card.driver == "pkcs11" else options.attest,
        "recoverable": options.recoverable,
    }
    for purpose in Purpose:
        found[f"with_{purpose.value}"] = purpose in options.purposes
        found[f"{purpose.value}_algorithm"] = await _algorithm(tx, card, purpose, sources[purpose], options)
        found[f"{purpose.value}_source"] = sources[purpose].value
    return found


def attestation_fact(known: Mapping[str, Any]) -> dict[str, str]:
    """Whether the card proves that it made its keys, for a process's page, by its variables.

    A process that an earlier version of the portal began asks for no proof.
    """
    return {"Attestation": _ATTEST[known.get("attest", "no")]}


def encryption_key_fact(known: Mapping[str, Any]) -> dict[str, str]:
    """What becomes of the encryption key, for a process's page, by its variables; nothing where the card gets none.

    A process that an earlier version of the portal began says nothing of it.
    """
    if Purpose.ENCRYPTION.value not in known["purposes"] or "recoverable" not in known:
        return {}
    planned = _NEW_ENCRYPTION_KEY[known["recoverable"]]
    source = KeySource(known.get("encryption_source", planned))
    if planned is KeySource.IMPORT_IF_POSSIBLE and source is KeySource.GENERATE:
        return {"Encryption key": f"{_ENCRYPTION_KEY[source]}. It takes no key from the portal's archive"}
    return {"Encryption key": _ENCRYPTION_KEY[source]}


def _card_parts(card: Card, managed: ManagedCard | None, *, fresh: bool, blocked: bool) -> dict[str, Any]:
    """What an order says of the card itself. A token is what its serial number says, and has no management key."""
    if card.driver == "pkcs11":
        return {
            "guid": card_orders.guid_of(card),
            "identity": None,
            "management": None,
            "new_puk": fresh and card.sealed_puk is None,
            "reset": False,
        }
    makers = _is_from_maker(card, managed)
    return {
        "guid": _guid(card, managed, blocked=blocked),
        "identity": identity(card, managed, blocked=blocked) if fresh else None,
        "management": plain(management_of(managed, blocked=blocked)),
        "new_puk": blocked or (fresh and card.sealed_puk is None),
        # what an order knows of a card that is reset is its maker's: so it is for one that was never encoded
        "reset": blocked or makers,
    }


def _is_from_maker(card: Card, managed: ManagedCard | None) -> bool:
    """Whether this card object has brought nothing to its card so far; another one, which ended, may have."""
    never = managed is None or (managed.encoded_for is None and managed.prepared_at is None)
    return card.sealed_puk is None and never


def _guid(card: Card, managed: ManagedCard | None, *, blocked: bool) -> str:
    """The GUID that the card has in the end: its own, or a fresh one when it goes to somebody else or is erased.

    Programs keep what they have read of a card by its GUID: whose keys are all gone isn't the card that they know.
    """
    if managed is None:
        return card.guid
    erased = blocked and managed.encoded_for is not None
    if managed.encoded_for in (None, card.owner_id) and managed.prepared_at is None and not erased:
        return managed.pending_guid or card.guid
    return managed.pending_guid or secrets.token_hex(16)


def identity(card: Card, managed: ManagedCard | None, *, blocked: bool = False) -> dict[str, Any]:
    """Which card is to get its GUID: by the number on it, where it doesn't tell that number and was never encoded.

    So it is for one that is reset: an order that ended half done may have left it without any identity.
    """
    serial = card.serial if card.serial.isdecimal() and len(card.serial) <= 20 else None
    never = managed is None or (managed.encoded_for is None and managed.prepared_at is None)
    wanted = CardIdentity(
        previous=None if never else card.guid,
        serial=None if serial is None else str(int(serial)),
        blank=never or blocked,
        printed=card.serial if (never or blocked) and _PRINTED.fullmatch(card.serial) else None,
    )
    return plain(wanted)


def management_of(managed: ManagedCard | None, *, blocked: bool = False) -> ManagementKey:
    """By which key the card is opened; one that is reset has its maker's afterwards, and gets another one."""
    proves = managed is not None and managed.mutual
    if managed is None or managed.key_generation == 0 or blocked:
        return ManagementKey(replace=list(OWN_KEY), proves=proves)
    known = managed.key_algorithm
    return ManagementKey(algorithm=None if known is None else ManagementAlgorithm(known), proves=proves)


async def _had_others(tx: AsyncSession, card: Card) -> bool:
    """Whether an order has changed the card for another person: their earlier keys may be on it."""
    query = select(Order.jti).join(Process, Process.id == Order.process_id)
    query = query.where(
        Order.card_id == card.id, Order.changing_at.is_not(None), Process.subject_id != card.owner_id
    )
    return (await tx.scalars(query.limit(1))).first() is not None


async def left_by_others(tx: AsyncSession, card: Card, keys: Iterable[KeyOrder]) -> list[str]:
    """Slots with keys that this portal has certified for somebody else, and that an order has no other key for.

    With its new PIN the card would else go on deciphering and signing for whoever had it. Retired keys aren't among
    them: the card's key history tells of those. A token may have been another card object's before: of that all go.
    """
    if card.driver == "pkcs11":
        return sorted(_SLOTS - {key.slot for key in keys})
    of_others = {item.slot for item in await certificates.of_card(tx, card) if item.owner_id != card.owner_id}
    return sorted((of_others & _SLOTS) - {key.slot for key in keys})


async def _earlier(
    tx: AsyncSession, card: Card, options: Options, sources: Mapping[Purpose, KeySource], now: int
) -> dict[str, Any]:
    """Earlier encryption keys, for a card that gets a certificate for encryption."""
    if Purpose.ENCRYPTION not in options.purposes:
        return dict(earlier_keys.NONE)
    keeps = []
    if sources[Purpose.ENCRYPTION] is KeySource.KEEP:
        related = await card_certificates.related(tx, card)
        keeps = [item.key_hash for item in related if item.profile == Purpose.ENCRYPTION][:1]
    return await earlier_keys.found(tx, card, keeps, now)


def is_good(tx: AsyncSession, card: Card, certificate: Certificate) -> bool:
    """Whether a certificate of a card is its holder's and good: its key can be certified anew."""
    valid = certificate.state == model_of(tx).certificates.graph(certificate.profile).valid
    return valid and certificate.ca_state == CaState.GOOD and certificate.owner_id == card.owner_id


def new_encryption_key(recoverable: str) -> KeySource:
    """Where a new encryption key comes from, by the option."""
    return _NEW_ENCRYPTION_KEY[recoverable]


async def _certified(tx: AsyncSession, card: Card) -> set[Purpose]:
    """What the card has good certificates for: their keys can be certified anew."""
    rows = await card_certificates.related(tx, card)
    return {Purpose(item.profile) for item in rows if is_good(tx, card, item)}


async def _algorithm(
    tx: AsyncSession, card: Card, purpose: Purpose, source: KeySource, options: Options
) -> str:
    """A key that stays has the algorithm that it has."""
    if source is KeySource.KEEP:
        for item in await card_certificates.related(tx, card):
            if item.profile == purpose:
                return item.algorithm
    return options.algorithm.value


def keys_text(sources: Iterable[KeySource], *, fresh: bool) -> str:
    """What becomes of a card's keys, for people, by where the keys of its new certificates come from."""
    wanted = set(sources)
    if wanted == {KeySource.KEEP}:
        return "stay as they are"
    return (
        "new ones are made" if fresh or KeySource.KEEP not in wanted else "those it has stay, others are made"
    )

"""What is written on a card in a reader: by the description that ships, or by its own where an administrator has one.

A description decides, and options reach it by its fields alone: what it says in so many words is done whatever they
say. The process variables are put right by that, so that pages tell what will be done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from portal.encoding import binding
from portal.encoding.description import FieldRef
from portal.encoding.piv_rules import Part
from portal.encoding.problems import problem
from portal.model.objects import ObjectKind
from portal.processes import card_certificates, card_descriptions, card_objects, earlier_keys, encodings
from portal.processes.temporary_card_encoding import encoding_of, is_good, keys_text, new_encryption_key
from portal.store.tables import User
from protocol import key_policies
from protocol.messages import KeyPinPolicy, KeySource, KeyTouchPolicy, Purpose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.encoding.binding import Encoding
    from portal.encoding.plan import Plan, PlannedCertificate
    from portal.processes.context import Context
    from portal.processes.temporary_cards import Options
    from portal.store.tables import Card

OBJECTS: Final = "card_objects"
"""Process variable: which data objects are written, for people."""
POLICIES: Final = "key_policies"
"""Process variable: when keys ask for the PIN and for a touch, for people."""
_CHOSEN: Final = tuple(f"with_{purpose.value}" for purpose in Purpose)
_RECOVERABLE: Final = {
    KeySource.GENERATE: "no",
    KeySource.IMPORT_IF_POSSIBLE: "where_possible",
    KeySource.IMPORT: "required",
}
"""The option's word for where a new encryption key comes from."""


async def variables(context: Context, tx: AsyncSession, card: Card, options: Options) -> dict[str, Any]:
    """The process variables of an encoding, as `encoding_of` has them, with what a card's own description says.

    Raises:
        InlayError: ``card_description_missing``, ``card_description_unfit``.
    """
    now = context.clock()
    known = await encoding_of(tx, card, options, now)
    own = card_descriptions.part_of(context, card, _part(card, known))
    if own is None:
        return known
    made = await _planned(tx, own, card, _without_recovery(own, known))
    purposes = frozenset(Purpose(item.template) for item in made.requested)
    if purposes != options.purposes:
        chosen = {name: known[name] for name in _CHOSEN}  # what a description reads is what the options say
        known = await encoding_of(tx, card, options._replace(purposes=purposes), now) | chosen
        made = await _planned(tx, own, card, _without_recovery(own, known))
    told = _told(made, fresh=known["first"])
    if known["attest"] == "no" and any(map(_is_beyond_standard, made.requested)):
        told["attest"] = "where_possible"  # nothing else tells the portal that a key is as it was ordered
    return _without_recovery(own, known) | told


async def foretold(context: Context, tx: AsyncSession, card: Card, options: Options) -> dict[str, Any]:
    """Which certificates a card gets, and whether the archive has its encryption key, before it is in hand."""
    own = card_descriptions.part_of(context, card, Part.ISSUE)
    if own is not None:
        known = await variables(context, tx, card, options)
        return {name: known[name] for name in ("purposes", "recoverable", "attest", POLICIES, OBJECTS)}
    purposes = sorted(purpose.value for purpose in options.purposes)
    return {"purposes": purposes, "recoverable": options.recoverable}


async def plan(context: Context, tx: AsyncSession, card: Card, known: Mapping[str, Any]) -> Plan:
    """What is done, with what the process variables hold now.

    Raises:
        InlayError: ``card_description_missing``, ``card_description_unfit``.
    """
    part = _part(card, known)
    own = card_descriptions.part_of(context, card, part)
    if own is not None:
        return await _planned(tx, own, card, known)
    known = {**earlier_keys.NONE, **known}  # a process of an earlier version has none
    recoverable = await earlier_keys.recoverable(tx, known)
    return binding.plan(encodings.OF_CARDS[part], known, recoverable, driver="piv")


def _part(card: Card, known: Mapping[str, Any]) -> Part:
    if card.kind == ObjectKind.CARD.value:
        return Part.ISSUE
    return Part.ENCODE if known["first"] else Part.EXTEND


async def _planned(tx: AsyncSession, own: Encoding, card: Card, known: Mapping[str, Any]) -> Plan:
    holder = await tx.get_one(User, card.owner_id)
    own_words = {"label": card.label, "holder": holder.email, "holder_name": holder.name}
    known = {**own_words, **earlier_keys.NONE, **known}
    made = card_descriptions.plan(own, card, known, await earlier_keys.recoverable(tx, known))
    if not made.certificates:
        raise card_descriptions.unfit(card, problem("all_left_out", 0, ""))
    if card.driver == "pkcs11":
        return made
    settled = [await _settled(tx, own, card, known, item) for item in made.certificates]
    return msgspec.structs.replace(made, certificates=tuple(settled))


async def _settled(
    tx: AsyncSession, own: Encoding, card: Card, known: Mapping[str, Any], item: PlannedCertificate
) -> PlannedCertificate:
    """A key that stays has the algorithm that it has; where there is none yet, the option lets one be made.

    Raises:
        InlayError: ``card_description_unfit``: a key has to stay that isn't there.
    """
    if KeySource(item.source) is not KeySource.KEEP:
        return item
    for row in await card_certificates.related(tx, card):
        if (row.slot, row.profile) == (item.slot, item.template) and is_good(tx, card, row):
            return msgspec.structs.replace(item, algorithm=row.algorithm)
    section = next(part for part in own.description.applications if part.name == item.application)
    if not isinstance(section.value("KeySource"), FieldRef):
        line = section.line_of("KeySource")
        raise card_descriptions.unfit(
            card, problem("piv_no_key_to_keep", line, item.slot, template=item.template)
        )
    encrypts = item.template == Purpose.ENCRYPTION
    source = new_encryption_key(known["recoverable"]) if encrypts else KeySource.GENERATE
    return msgspec.structs.replace(item, source=cast(Any, source.value))


def _without_recovery(own: Encoding, known: Mapping[str, Any]) -> dict[str, Any]:
    return {**known, **({} if card_descriptions.recovers(own) else earlier_keys.NONE)}


def _told(made: Plan, *, fresh: bool) -> dict[str, Any]:
    """What pages say of a plan."""
    sources = [KeySource(item.source) for item in made.requested]
    names = {item.template for item in made.requested}
    found: dict[str, Any] = {
        "purposes": [purpose.value for purpose in Purpose if purpose.value in names],
        "keys": keys_text(sources, fresh=fresh),
        POLICIES: "; ".join(
            f"{item.slot}: {key_policies.text(*_policies(item))}"
            for item in made.requested
            if any(_policies(item))
        ),
        OBJECTS: card_objects.fact(made),
    }
    for item in made.requested:
        if item.template == Purpose.ENCRYPTION:
            found["encryption_source"] = item.source
            found |= _as_option(KeySource(item.source))
    return found


def described_facts(known: Mapping[str, Any]) -> dict[str, str]:
    """What descriptions alone say, for a process's page: when keys ask for PIN and touch, and data on the card."""
    told = {"PIN and touch of keys": known.get(POLICIES), "Data on the card": known.get(OBJECTS)}
    return {label: text for label, text in told.items() if text}


def _is_beyond_standard(item: PlannedCertificate) -> bool:
    return key_policies.beyond_standard(item.slot, *_policies(item))


def _policies(item: PlannedCertificate) -> tuple[KeyPinPolicy | None, KeyTouchPolicy | None]:
    pin, touch = item.pin_policy, item.touch_policy
    return None if pin is None else KeyPinPolicy(pin), None if touch is None else KeyTouchPolicy(touch)


def _as_option(source: KeySource) -> dict[str, str]:
    return {} if source is KeySource.KEEP else {"recoverable": _RECOVERABLE[source]}

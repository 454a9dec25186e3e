"""What the processes of temporary cards have in common: options, whose card it is, and the end of its certificates.

A temporary card is kept by staff until somebody needs it for a while. Its holder is who has it in hand: the operator
who took it in, or the person it is assigned to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

from sqlalchemy import and_, func, or_, select

from portal import option_store
from portal.model.card_options import TEMPORARY_CARDS
from portal.model.objects import ObjectKind
from portal.model.options import Form, Option
from portal.model.states import OrderState, TemporaryCardState
from portal.processes import certificates
from portal.processes.definition import Target
from portal.store import objects
from portal.store.tables import Card, ManagedCard, Order, Process, User
from portal.store.transitions import is_final
from protocol.errors import InlayError
from protocol.messages import Algorithm, Purpose

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.ca.authority import Reason
    from portal.model.objects import CoreObject
    from portal.processes.definition import Parties

DAY: Final = 86_400
PRODUCE: Final = "TempCardsProcProduce"
"""The process that makes a card ready for whoever gets it; its class stands in ``produce_temporary_card``."""
REASON: Final = Option(
    "Reason",
    "Reason",
    "Why. It stays in the card's history, where other operators read it.",
    "text",
    "",
    low=3,
    high=200,
)
REASON_FORM: Final = Form((REASON,))


class Options(NamedTuple):
    """The options of temporary cards that its processes read.

    Attributes:
        validity: seconds for which a card is assigned or extended.
        encodes: it gets new certificates when it is extended.
        purposes: which.
        new_keys: it gets new keys with them.
        algorithm: of new keys.
        one_per_person: a person can have one at a time.
        attest: whether the card proves that it made its keys.
        recoverable: whether the archive has its encryption key; ``where_possible``: where the card takes such a key.
    """

    validity: int
    encodes: bool
    purposes: frozenset[Purpose]
    new_keys: bool
    algorithm: Algorithm
    one_per_person: bool
    attest: Literal["no", "where_possible", "required"]
    recoverable: Literal["no", "where_possible", "required"]


async def options(tx: AsyncSession) -> Options:
    """The options as they are now."""
    values = (await option_store.current(tx, TEMPORARY_CARDS)).values
    return Options(
        cast(int, values["TempCardsValidityDays"]) * DAY,
        bool(values["TempCardsEncode"]),
        frozenset(Purpose(value) for value in cast("list[str]", values["TempCardsCertificates"])),
        bool(values["TempCardsNewKeys"]),
        Algorithm(cast(str, values["TempCardsKeyAlgorithm"])),
        bool(values["TempCardsOnePerUser"]),
        cast('Literal["no", "where_possible", "required"]', values["TempCardsAttestation"]),
        cast('Literal["no", "where_possible", "required"]', values["TempCardsRecoverEncryption"]),
    )


def in_states(states: Iterable[TemporaryCardState]) -> Target:
    """A process's target: a temporary card in one of these states."""
    return Target(frozenset({ObjectKind.TEMPORARY_CARD}), frozenset(state.value for state in states))


def card_of(parties: Parties) -> Card:
    """The card that a process works on."""
    return cast(Card, parties.target)


async def check_encoded(tx: AsyncSession, card: Card) -> None:
    """See that a card in a reader has its holder's PIN and keys.

    Raises:
        InlayError: ``card_not_encoded``.
    """
    managed = await tx.get(ManagedCard, card.id)
    if managed is None or managed.encoded_for != card.owner_id or await was_changed_for_another(tx, card):
        raise InlayError("card_not_encoded")


async def was_changed_for_another(tx: AsyncSession, card: Card) -> bool:
    """Whether the last order that changed a card was for another person than the one who has it now.

    One that ended half done has left that person's PIN and keys there, also where the card was its holder's before.
    """
    query = select(Process.subject_id).join(Order, Order.process_id == Process.id)
    query = query.where(
        Order.card_id == card.id, Order.operation == "encode_card", Order.changing_at.is_not(None)
    )
    last = (await tx.scalars(query.order_by(Order.ended.desc().nulls_last()).limit(1))).first()
    return last is not None and last != card.owner_id


def is_somebodys() -> ColumnElement[bool]:
    """That a temporary card is with its holder: assigned, or half done and still theirs.

    One that failed while it was made ready for whoever gets it is nobody's, though whoever made it has it in hand.
    """
    last = select(Process.name).join(Order, Order.process_id == Process.id)
    last = last.where(
        Order.card_id == Card.id, Order.operation == "encode_card", Order.changing_at.is_not(None)
    )
    changed_by = last.order_by(Order.ended.desc().nulls_last()).limit(1).correlate(Card).scalar_subquery()
    return or_(
        Card.state == TemporaryCardState.ASSIGNED.value,
        and_(Card.state == TemporaryCardState.FAILED.value, func.coalesce(changed_by, "") != PRODUCE),
    )


async def failed_with_holder(tx: AsyncSession, card: Card) -> bool:
    """Whether a card failed while it was encoded for somebody, and not while it was made ready for whoever gets it."""
    failed = card.state == TemporaryCardState.FAILED
    query = select(Card.id).where(Card.id == card.id, is_somebodys())
    return failed and (await tx.scalars(query)).first() is not None


async def other_of(tx: AsyncSession, person_id: str, card: Card) -> Card | None:
    """Another temporary card that a person has: assigned, or half done and still theirs.

    The caller has locked the person: of two cards at once the second one finds the first.
    """
    query = select(Card).where(
        Card.owner_id == person_id, Card.kind == card.kind, is_somebodys(), Card.id != card.id
    )
    return (await tx.scalars(query.order_by(Card.state, Card.label).limit(1))).first()


async def check_only_one(tx: AsyncSession, card: Card) -> None:
    """See that a person who may have one temporary card has no other before one that is half done is finished.

    Of two that are half done neither stands in the other's way, unless it is about to be assigned.

    Raises:
        InlayError: ``temporary_card_other``.
    """
    if not (await options(tx)).one_per_person:
        return
    await tx.execute(select(User.id).where(User.id == card.owner_id).with_for_update(key_share=True))
    won = select(Order.jti).join(Process, Process.id == Order.process_id)
    won = won.where(
        Order.card_id == Card.id, Order.state == OrderState.FINISHING.value, Process.name != PRODUCE
    )
    query = select(Card.label).where(
        Card.owner_id == card.owner_id,
        Card.kind == card.kind,
        Card.id != card.id,
        (Card.state == TemporaryCardState.ASSIGNED.value)
        | ((Card.state == TemporaryCardState.FAILED.value) & won.exists()),
    )
    if (other := (await tx.scalars(query.order_by(Card.label).limit(1))).first()) is not None:
        raise InlayError("temporary_card_other", label=other)


async def described(tx: AsyncSession, parties: Parties) -> dict[str, Any]:
    """Variables: the card, and its certificates that aren't at their end."""
    card = card_of(parties)
    rows = await certificates.of_card(tx, card)
    return {
        "card": objects.describe(card),
        "certificates": [objects.describe(row) for row in rows if not is_final(tx, row)],
    }


def facts(process: Process) -> Mapping[str, str]:
    """What is revoked with the card, if anything, and why, for the pages; card and holder stand there already."""
    known, found = process.variables, {}
    if "certificates" in known:
        revoked = cast("list[CoreObject]", known["certificates"])
        found["Certificates to revoke"] = ", ".join(item.label for item in revoked) or "none"
    if reason := known.get(REASON.name):
        found["Reason"] = cast(str, reason)
    return found


async def end_certificates(tx: AsyncSession, card: Card, reason: Reason, actor: str, now: int) -> None:
    """Have the CA revoke all certificates of a card that are good."""
    for certificate in await certificates.of_card(tx, card, lock=True):
        await certificates.enqueue_revocation(tx, certificate, reason, actor, now)

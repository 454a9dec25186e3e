"""What the processes of cards have in common: options, one active card for each person, and hold and release.

A card is made for one person: an operator asks for it, somebody else approves it, an operator issues it, its holder
activates it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

from sqlalchemy import select

from portal import option_store
from portal.mail.addresses import usable
from portal.model.card_options import CARDS
from portal.model.objects import ObjectKind
from portal.model.states import CardState, CaState, CertificateState
from portal.processes import ca_changes, certificates, temporary_cards
from portal.processes.ca_changes import Change
from portal.processes.definition import Target
from portal.store.database import model_of
from portal.store.tables import Card, Revocation, User
from protocol.errors import InlayError
from protocol.messages import Algorithm, Purpose

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Certificate

EMAIL: Final = "email"
PRINT: Final = "print"


class Options(NamedTuple):
    """The options of cards.

    Attributes:
        encoding: what its encoding reads, as of a temporary card: a card always gets new keys.
        pin_length: digits of the PIN that the portal draws.
        puk_length: of the PUK.
        pin_delivery: ``print``, ``email`` or ``nopin``.
        puk_delivery: ``nopuk``, ``print`` or ``email``.
        several: a person may have more than one active card.
        activation_proves: a card becomes Active by its own signature.
    """

    encoding: temporary_cards.Options
    pin_length: int
    puk_length: int
    pin_delivery: str
    puk_delivery: str
    several: bool
    activation_proves: bool


async def options(tx: AsyncSession) -> Options:
    """The options as they are now."""
    values = (await option_store.current(tx, CARDS)).values
    several = bool(values["CardsMultipleActive"])
    return Options(
        temporary_cards.Options(
            validity=cast(int, values["CardsValidityDays"]) * temporary_cards.DAY,
            encodes=True,
            purposes=frozenset(Purpose(value) for value in cast("list[str]", values["CardsCertificates"])),
            new_keys=True,
            algorithm=Algorithm(cast(str, values["CardsKeyAlgorithm"])),
            one_per_person=not several,
            attest=cast('Literal["no", "where_possible", "required"]', values["CardsAttestation"]),
            recoverable=cast('Literal["no", "where_possible", "required"]', values["CardsRecoverEncryption"]),
        ),
        cast(int, values["CardsPINLength"]),
        cast(int, values["CardsPUKLength"]),
        cast(str, values["CardsPINDelivery"]),
        cast(str, values["CardsPUKDelivery"]),
        several,
        bool(values["CardsActivationNeedsCard"]),
    )


def in_states(states: Iterable[CardState], *, own: bool = False) -> Target:
    """A process's target: a card in one of these states."""
    return Target(frozenset({ObjectKind.CARD}), frozenset(state.value for state in states), own)


def check_delivery(context: Context, pin_delivery: str, puk_delivery: str, holder: User) -> None:
    """See that PIN and PUK can be delivered as the options say, before a card has them.

    Raises:
        InlayError: ``card_mail_missing``, ``card_mail_address``.
    """
    for option, way in (("CardsPINDelivery", pin_delivery), ("CardsPUKDelivery", puk_delivery)):
        if way == EMAIL and not context.mails:
            raise InlayError("card_mail_missing", option=option)
        if way == EMAIL and not usable(holder.email):
            raise InlayError("card_mail_address", option=option)


async def check_only_active(tx: AsyncSession, card: Card) -> None:
    """See that a person who may have one active card has no other.

    The person is locked: of two cards activated at once the second one finds the first.

    Raises:
        InlayError: ``card_other_active``.
    """
    if (await options(tx)).several:
        return
    await tx.execute(select(User.id).where(User.id == card.owner_id).with_for_update(key_share=True))
    query = select(Card.label).where(
        Card.owner_id == card.owner_id,
        Card.kind == card.kind,
        Card.state == CardState.ACTIVE.value,
        Card.id != card.id,
    )
    if (other := (await tx.scalars(query.limit(1))).first()) is not None:
        raise InlayError("card_other_active", label=other)


async def hold(tx: AsyncSession, card: Card, actor: str, now: int) -> None:
    """Have the CA put the card's certificates on hold that are valid."""
    for item in await certificates.of_card(tx, card, lock=True):
        if item.state == _valid(tx, item):
            await ca_changes.ask(tx, item, Change.HOLD, actor, now)


async def release(tx: AsyncSession, card: Card, actor: str, now: int) -> None:
    """Have the CA release the card's certificates that are on hold, or about to be."""
    for item in await certificates.of_card(tx, card, lock=True):
        waiting = await tx.get(Revocation, item.id)
        held = item.ca_state == CaState.HELD or (waiting is not None and waiting.change == Change.HOLD)
        if held and item.state in (_valid(tx, item), CertificateState.ON_HOLD.value):
            await ca_changes.ask(tx, item, Change.RELEASE, actor, now)


def _valid(tx: AsyncSession, certificate: Certificate) -> str:
    return model_of(tx).certificates.graph(certificate.profile).valid

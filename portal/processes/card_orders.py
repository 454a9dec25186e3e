"""What the processes have in common that order something of a card that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import select

from portal import option_store
from portal.errors import WrongState
from portal.model.objects import ObjectKind
from portal.model.options import fill
from portal.model.states import CardState, OrderState, TemporaryCardState, VirtualSmartCardState
from portal.model.virtual_card_options import NAME as OPTIONS
from portal.model.virtual_card_options import VirtualCardOptions
from portal.processes import temporary_cards
from portal.processes.definition import Target, open_order
from portal.store import objects
from portal.store.tables import Card, Order
from protocol.tokens import token_guid

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Turn
    from protocol.messages import Operation

_UNDER_WAY: Final = (OrderState.RUNNING.value, OrderState.FINISHING.value)
_ENDED: Final = (OrderState.FINISHED.value, OrderState.UNDONE.value)


USABLE: Final = Target(
    frozenset({ObjectKind.VIRTUAL_SMART_CARD, ObjectKind.CARD, ObjectKind.TEMPORARY_CARD}),
    frozenset(
        {VirtualSmartCardState.ACTIVE.value, CardState.ACTIVE.value, TemporaryCardState.ASSIGNED.value}
    ),
    own=True,
)
"""A card of one's own whose keys can be used now."""


async def check_usable(tx: AsyncSession, card: Card) -> None:
    """See that a card has keys of its holder's.

    Raises:
        InlayError: ``card_not_encoded``.
    """
    if card.kind != ObjectKind.VIRTUAL_SMART_CARD.value:
        await temporary_cards.check_encoded(tx, card)


def guid_of(card: Card) -> str:
    """What orders call a card: the GUID of its CHUID, or what is made of a token's serial number.

    It isn't stored for a token: one that comes to a new card object, after the old one has ended, has it again.
    """
    return token_guid(card.serial) if card.driver == "pkcs11" and card.serial else card.guid


def named(card: Card, **others: str) -> dict[str, Any]:
    """The parameters by which an order names its card: ``card``, ``driver``, ``guid`` and ``label``.

    Args:
        card: the card.
        others: in place of what the card has.
    """
    return {"card": card.id, "driver": card.driver, "guid": guid_of(card), "label": card.label, **others}


async def options_of(tx: AsyncSession) -> VirtualCardOptions:
    """The options of virtual smart cards as they are now."""
    return VirtualCardOptions((await option_store.current(tx, OPTIONS)).values)


async def variables(context: Context, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
    """The card, and the account as the consent window shows it."""
    options, user = await options_of(tx), parties.subject
    known = {"email": user.email, "name": user.name, "portal": context.portal}
    return {
        "card": objects.describe(cast(Card, parties.target)),
        "user_id": fill(options.template("UserId"), known),
        "resume_within": options.resume_within,
    }


async def refuse_while_ordered(tx: AsyncSession, card: Card) -> None:
    """One order of a card at a time.

    Raises:
        WrongState: another one is being carried out.
    """
    query = select(Order.state).where(Order.card_id == card.id, Order.state.in_(_UNDER_WAY)).limit(1)
    running = (await tx.scalars(query)).first()
    if running is not None:
        raise WrongState("order", running, _ENDED)


async def order(context: Context, turn: Turn, operation: Operation) -> None:
    """Make the order about the process's card, and move the process to the step at which it is carried out.

    Raises:
        WrongState: another order of this card is being carried out.
    """
    card = cast(Card, turn.parties.target)
    await refuse_while_ordered(turn.tx, card)
    made = open_order(
        turn, operation, resume_within=turn.process.variables["resume_within"], now=context.clock()
    )
    made.card_id = card.id

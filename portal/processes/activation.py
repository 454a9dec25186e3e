"""What activation stands on: how the holder learnt the PIN, and the proof by which a card becomes Active.

``docs/adr/0020-activation-proves-the-card.md`` says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import select

from portal.mail import outbox
from portal.model.graphs import Why
from portal.model.states import CardState, OrderState
from portal.processes import card_certificates, card_letters, cards
from portal.store.tables import AuditEntry, Order, Process, User
from portal.store.transitions import StateChange, change_state
from protocol.errors import InlayError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Card

PROVES: Final = "activates"
"""Process variable: its order *authenticate* activates the card; read once, when the process starts."""
UNTOLD: Final = "untold"
"""Process variable of *Issue card*: kinds of the letters that weren't printed when it was cancelled."""
SLOT: Final = "9A"
"""The key that *authenticate* uses."""


class Told(NamedTuple):
    """What the holder of an issued card has been told: the PIN, the PUK.

    Attributes:
        pin, puk: a letter told it, or a mail tells it that was sent or waits; not one that failed.
        pin_mail: how the mail with the PIN stands; None: there was to be none.
        pin_chosen: the holder has set another PIN since.
    """

    pin: bool
    puk: bool
    pin_mail: outbox.Standing | None
    pin_chosen: bool


async def told(tx: AsyncSession, card: Card) -> Told:
    """By the process that issued the card last. A card that kept its maker's PUK has none that could be told."""
    query = (
        select(Process)
        .join(Order, Order.process_id == Process.id)
        .where(
            Order.card_id == card.id,
            Order.operation == "encode_card",
            Order.state.in_((OrderState.FINISHING.value, OrderState.FINISHED.value)),
        )
        .order_by(Order.ended.desc())
    )
    process = (await tx.scalars(query.limit(1))).first()
    known = {} if process is None else process.variables
    pin_mail, puk_mail = [
        await outbox.standing(tx, card.id, kind) if known.get(delivery) == cards.EMAIL else None
        for delivery, kind in (
            ("pin_delivery", card_letters.PIN_MAIL),
            ("puk_delivery", card_letters.PUK_MAIL),
        )
    ]
    untold = known.get(UNTOLD, [])
    pin = known.get("pin_delivery") == cards.PRINT and card_letters.PIN not in untold
    puk = known.get("puk_delivery") == cards.PRINT and card_letters.PUK not in untold
    chosen = select(AuditEntry.number).where(
        AuditEntry.object_id == card.id, AuditEntry.action == "card.pin_unblocked"
    )
    return Told(
        pin or pin_mail in ("sent", "waiting"),
        (puk or puk_mail in ("sent", "waiting")) and card.sealed_puk is not None,
        pin_mail,
        (await tx.scalars(chosen.limit(1))).first() is not None,
    )


async def check_can_prove(tx: AsyncSession, card: Card) -> None:
    """See that the card has a key that can prove it.

    Raises:
        InlayError: ``card_without_authentication``.
    """
    if not any(item.slot == SLOT for item in await card_certificates.related(tx, card)):
        raise InlayError("card_without_authentication")


async def is_ordered(tx: AsyncSession, order: Order) -> bool:
    """Whether an order's signature activates its card."""
    process = await tx.get_one(Process, order.process_id)
    return bool(process.variables.get(PROVES))


async def by_order(context: Context, tx: AsyncSession, order: Order, card: Card) -> None:
    """The card has proved itself: it is Active, in the transaction in which its receipt is accepted.

    So nothing comes between proof and state: whoever locks the card comes before, and the receipt is refused, or after.
    Whoever has proved that the PIN is known needs no mail with it: one that is still tried is dropped.

    Raises:
        InlayError: ``card_other_active``: activated since the order was made.
    """
    await cards.check_only_active(tx, card)
    actor = await tx.get_one(User, order.user_id)
    await activate(context, tx, card, actor.email, order=order.jti)
    await outbox.drop(tx, context, card.id, card_letters.PIN_MAIL)


async def activate(context: Context, tx: AsyncSession, card: Card, actor: str, **details: str) -> None:
    """Card, the CA's queue and audit log change together; what was to be printed isn't any more."""
    now = context.clock()
    await change_state(tx, card, CardState.ACTIVE, StateChange(actor, now, Why.ACTIVATED), **details)
    await cards.release(tx, card, actor, now)
    await card_letters.forget(tx, card.id)

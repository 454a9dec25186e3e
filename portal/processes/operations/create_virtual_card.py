"""The operation *create virtual card*: Registered at the requests, Active once the card has proved itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from portal.model import states
from portal.model.graphs import Why
from portal.model.states import VirtualSmartCardState
from portal.processes import order_rows, proofs, replacing, tasks
from portal.store import audit
from portal.store.tables import Card
from portal.store.transitions import StateChange, change_state
from protocol.errors import DecodeError, InlayError
from protocol.messages import CreateVirtualCard

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import Consented, Receipt, Requests

_PUK_DIGITS: Final = 8


class CreateVirtualCardOperation:
    """See ``portal.processes.operation.OrderOperation``."""

    def check_consent(self, order: Order, consented: Consented) -> None:
        """The keys must be kept as the portal's policy allows."""
        if consented.storage not in _ordered(order).storage:
            raise InlayError("storage_refused", level=_level(consented.storage))

    async def register(self, context: Context, tx: AsyncSession, order: Order, requests: Requests) -> None:
        """Store the card as Registered, with its sealed PUK."""
        ordered = _ordered(order)
        puk = _sealed_puk(context, requests, ordered)
        taken = select(Card.id).where((Card.guid == requests.guid) | (Card.id == ordered.card))
        if (await tx.execute(taken)).first() is not None:
            raise DecodeError("params_invalid", "$.guid")
        if requests.serial is None:
            raise DecodeError("params_invalid", "$.serial")
        now = context.clock()
        card = Card(
            driver="virtual",
            id=ordered.card,
            kind=states.VIRTUAL_SMART_CARD.kind,
            owner_id=order.user_id,
            label=ordered.label,
            serial=requests.serial,
            guid=requests.guid,
            state=states.VIRTUAL_SMART_CARD.start.value,
            storage=order.storage or "",
            attested=False,
            device_jkt=order.device_jkt,
            sealed_puk=puk,
            valid_until=ordered.valid_until,
            created_at=now,
            changed_at=now,
        )
        tx.add(card)
        await tx.flush()
        order.card_id = card.id
        await tasks.produced(tx, order, card)
        await audit.record(
            tx,
            at=now,
            actor=f"device:{order.device_jkt}",
            action="card.registered",
            kind=card.kind,
            object_id=card.id,
            order=order.jti,
        )

    async def check_receipt(self, context: Context, tx: AsyncSession, order: Order, receipt: Receipt) -> None:
        """Every key has proved itself, on this card, kept as was said at consent."""
        await order_rows.check_person(tx, order)
        card = await tx.get_one(Card, order.card_id)
        if receipt.guid != card.guid:
            raise DecodeError("params_invalid", "$.guid")
        if receipt.storage != order.storage:
            raise InlayError("storage_refused", level=_level(receipt.storage))
        await proofs.verify_receipt(context, tx, order, receipt)
        card.generation = receipt.generation

    async def finish(self, context: Context, tx: AsyncSession, order: Order) -> None:
        """The task has succeeded, and the card is Active."""
        now = context.clock()
        actor = f"device:{order.device_jkt}"
        card = await tx.get_one(Card, order.card_id, with_for_update=True)
        await tasks.succeed(context, tx, order, actor)
        await change_state(
            tx, card, VirtualSmartCardState.ACTIVE, StateChange(actor, now, Why.CREATED), order=order.jti
        )
        card.storage = order.storage or card.storage
        await replacing.replace_old(tx, order, card, actor, now)

    async def undo(self, context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
        """The task has failed; the card stays Registered, which shows that its creation went wrong."""
        await tasks.fail(context, tx, order, actor)


def _ordered(order: Order) -> CreateVirtualCard:
    return order_rows.parameters_as(order, CreateVirtualCard)


def _level(told: str | None) -> str:
    return told or "none"


def _sealed_puk(context: Context, requests: Requests, ordered: CreateVirtualCard) -> bytes | None:
    if ordered.puk == "show":
        if requests.puk is not None:
            raise DecodeError("params_invalid", "$.puk")
        return None
    if requests.puk is None:
        raise DecodeError("params_invalid", "$.puk")
    puk = context.keys.escrow().decrypt(requests.puk)
    try:
        if len(puk) != _PUK_DIGITS or not puk.isdigit():
            raise DecodeError("params_invalid", "$.puk")
        return context.keys.seal(puk, tasks.puk_label(ordered.card))
    finally:
        puk[:] = bytes(len(puk))

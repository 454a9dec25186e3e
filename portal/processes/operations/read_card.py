"""The operation *read card*: what a card in a reader tells, and which of the portal's cards it is.

Nothing of it is believed: a device, or a card, can tell what it likes. It is shown, and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from portal.ca.x509 import facts
from portal.model.objects import ObjectKind
from portal.processes import order_rows, tasks
from portal.store import audit, objects
from portal.store.tables import Card, Process
from protocol.errors import DecodeError, InlayError
from protocol.messages import ReadCard
from protocol.tokens import token_guid

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import CardReading, Consented, Receipt, Requests

READING: Final = "reading"
"""Process variable: what was read, as text for the page."""
KNOWN: Final = "known_card"
"""Process variable: the portal's card that it is; None when it is none."""
_NO_GUID: Final = "0" * 32
_PHYSICAL: Final = (ObjectKind.CARD.value, ObjectKind.TEMPORARY_CARD.value)


class ReadCardOperation:
    """See ``portal.processes.operation.OrderOperation``."""

    def check_consent(self, order: Order, consented: Consented) -> None:
        """Nothing is kept on the device."""
        if consented.storage is not None:
            raise DecodeError("params_invalid", "$.storage")

    async def register(self, context: Context, tx: AsyncSession, order: Order, requests: Requests) -> None:
        """It certifies nothing.

        Raises:
            InlayError: ``message_unexpected``.
        """
        raise InlayError("message_unexpected")

    async def check_receipt(self, context: Context, tx: AsyncSession, order: Order, receipt: Receipt) -> None:
        """Keep what was read, for the page of the process."""
        await order_rows.check_person(tx, order)
        reading = receipt.reading
        if reading is None or receipt.guid != (reading.guid or _NO_GUID):
            raise DecodeError("params_invalid", "$.reading")
        others = (receipt.proofs, receipt.signature, receipt.management_replaced, receipt.puk_replaced)
        if any(others):
            raise DecodeError("params_invalid", "$.proofs")
        by_token = order_rows.parameters_as(order, ReadCard).driver == "pkcs11"
        if reading.token is not None and not (by_token and reading.guid == token_guid(reading.token)):
            raise DecodeError("params_invalid", "$.reading.token")
        card = await _known(tx, reading)
        found = {READING: _shown(reading), KNOWN: None if card is None else objects.describe(card)}
        await tasks.set_variables(tx, order, found)

    async def finish(self, context: Context, tx: AsyncSession, order: Order) -> None:
        """That it was read is in the card's history, where the portal knows it."""
        process = await tx.get_one(Process, order.process_id)
        known = process.variables.get(KNOWN)
        await audit.record(
            tx,
            at=context.clock(),
            actor=f"device:{order.device_jkt}",
            action="card.read",
            kind="process" if known is None else known.kind.value,
            object_id=process.id if known is None else known.id,
            order=order.jti,
        )

    async def undo(self, context: Context, tx: AsyncSession, order: Order, actor: str) -> None:
        """Nothing was changed."""


async def _known(tx: AsyncSession, reading: CardReading) -> Card | None:
    """The portal's card with this GUID, or else the newest with the serial number that the card tells."""
    physical = select(Card).where(Card.kind.in_(_PHYSICAL))
    if reading.token is not None:
        # a token is used again: one whose card has ended is the newest that has its serial number
        same = physical.where(Card.driver == "pkcs11", Card.serial == reading.token)
        return (await tx.scalars(same.order_by(Card.created_at.desc()).limit(1))).first()
    if reading.guid is not None:
        found = (await tx.scalars(physical.where(Card.guid == reading.guid))).first()
        if found is not None:
            return found
    if reading.serial is None:
        return None
    number = int(reading.serial)
    same = physical.where(Card.serial.endswith(str(number), autoescape=True)).order_by(Card.created_at.desc())
    for card in await tx.scalars(same.limit(50)):
        if card.serial.isdecimal() and int(card.serial) == number:
            return card
    return None


def _shown(reading: CardReading) -> dict[str, Any]:
    return {
        "kind": reading.kind,
        "guid": reading.guid,
        "serial": reading.token or reading.serial,
        "version": reading.version,
        "features": sorted(reading.features),
        "pin_tries": reading.pin_tries,
        "puk_tries": reading.puk_tries,
        "certificates": [_certificate(item.slot, item.certificate) for item in reading.certificates],
        "omitted": reading.omitted,
    }


def _certificate(slot: str, der: bytes) -> str:
    """One line of text; what isn't a certificate that can be read is said to be there."""
    try:
        told = facts(der)
    except (ValueError, InlayError):
        return f"{slot}: can't be read"
    # whoever wrote the card chose the name: nothing in it turns the line around, or begins another one
    subject = "".join(mark if mark.isprintable() else "?" for mark in told.subject[:120])
    return f"{slot}: {subject}, serial number {told.serial}"

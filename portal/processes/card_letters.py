"""Letters with a card's PIN and PUK: kept until they are printed, printed a few times, and gone after that.

A PIN is in the database sealed, from the moment before it leaves for the card until its letter was printed and that was
said, or until the card isn't Issued any more, whatever comes first. A PUK stays with its card; its letter ends
with the PIN's. That a letter was printed is in the audit log before it is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, select

from portal.events import process_topic
from portal.mail import outbox
from portal.model.states import CardState
from portal.processes import order_rows, tasks
from portal.store import audit
from portal.store.database import notify
from portal.store.tables import Card, CardLetter, User
from portal.views import LetterView
from protocol.errors import InlayError
from protocol.messages import ChangePin, UnblockPin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order, Process

PIN: Final = "pin"
PUK: Final = "puk"
MOST_PRINTS: Final = 3
"""Of one letter: paper jams, and nobody needs a fourth one."""
_PRINTED: Final = {PIN: "card.pin_letter", PUK: "card.puk_letter"}
"""What the audit log calls it."""
PIN_MAIL, PUK_MAIL = "card_pin", "card_puk"
MAILS: Final = (PIN_MAIL, PUK_MAIL)
"""Kinds of mails that tell the same."""
_SETS_PIN: Final = (ChangePin, UnblockPin)
_UNSURE: Final = frozenset(
    {"card_pin_unknown", "internal", "journal_unusable", "order_undone", "pin_changed_anyway"}
)
"""Ends that a device tells, after which the card may have another PIN than before."""
TITLES: Final = {PIN: "PIN letter", PUK: "PUK letter"}


def _label(card_id: str) -> bytes:
    """Associated data of a card's sealed PIN."""
    return b"inlay-pin\0" + card_id.encode()


async def keep_pin(
    context: Context, tx: AsyncSession, card_id: str, process: Process, pin: bytearray
) -> None:
    """Store a PIN for its letter; one of an earlier order is forgotten."""
    await end(context, tx, card_id)
    tx.add(
        CardLetter(
            card_id=card_id,
            kind=PIN,
            process_id=process.id,
            sealed=context.keys.seal(pin, _label(card_id)),
            prints=0,
            created_at=context.clock(),
        )
    )
    await tx.flush()


async def keep_puk(context: Context, tx: AsyncSession, card_id: str, process: Process) -> None:
    """From now on the letter with a card's PUK can be printed."""
    if await tx.get(CardLetter, (card_id, PUK)) is None:
        tx.add(
            CardLetter(card_id=card_id, kind=PUK, process_id=process.id, prints=0, created_at=context.clock())
        )


async def forget(tx: AsyncSession, card_id: str) -> None:
    """Delete what a card's letters would say: it isn't told any more."""
    await _delete(tx, CardLetter.card_id == card_id)


async def end(context: Context, tx: AsyncSession, card_id: str) -> None:
    """The card is at its end, or gets another PIN: neither its letters nor mails that wait tell anything any more."""
    await forget(tx, card_id)
    await outbox.drop(tx, context, card_id, *MAILS)


async def end_puk(context: Context, tx: AsyncSession, card_id: str) -> None:
    """The card gets another PUK, or may have got it: neither letter nor mail tells the one of before."""
    await _delete(tx, CardLetter.card_id == card_id, CardLetter.kind == PUK)
    await outbox.drop(tx, context, card_id, PUK_MAIL)


async def end_pin(context: Context, tx: AsyncSession, card_id: str) -> None:
    """The card has another PIN, or may have: no letter tells anything any more, and no mail the PIN of before."""
    await forget(tx, card_id)
    await outbox.drop(tx, context, card_id, PIN_MAIL)


async def before_new_pin(context: Context, tx: AsyncSession, order: Order) -> None:
    """An order goes to work that may change its card's PIN before the portal hears of it: no mail tells that PIN.

    Whoever needs the mail has another way: who changes a PIN knows it, who unblocks a card gets a new one.
    """
    ordered = order_rows.parameters(order)
    if isinstance(ordered, _SETS_PIN):
        await outbox.drop(tx, context, ordered.card, PIN_MAIL)


async def after_no_new_pin(
    context: Context, tx: AsyncSession, order: Order, card_id: str, actor: str
) -> None:
    """An order about a card's PIN was undone: unless its device says that the PIN is as it was, nobody knows it.

    Args:
        context: the portal's parts.
        tx: a writing transaction.
        order: it; its error is noted.
        card_id: its card.
        actor: who undoes it.
    """
    code = None if order.error is None else order.error["error"]
    as_it_was = actor.startswith("device:") and code not in _UNSURE
    if order.sent and not as_it_was:  # what a portal says first is *proceed*
        await end_pin(context, tx, card_id)


async def forget_of(tx: AsyncSession, process_id: str) -> None:
    """Delete what one process's letters would say; those of a later one for the same card stay."""
    await _delete(tx, CardLetter.process_id == process_id)


async def _delete(tx: AsyncSession, *which: ColumnElement[bool]) -> None:
    """Delete letters, and tell the pages that show them."""
    for process_id in await tx.scalars(select(CardLetter.process_id).where(*which).distinct()):
        notify(tx, process_topic(process_id))
    await tx.execute(delete(CardLetter).where(*which))


async def of_process(tx: AsyncSession, process: Process) -> Sequence[LetterView]:
    """The letters that a process may print."""
    query = select(CardLetter).where(CardLetter.process_id == process.id).order_by(CardLetter.kind)
    return [
        LetterView(row.kind, TITLES[row.kind], row.prints, MOST_PRINTS - row.prints)
        for row in await tx.scalars(query)
    ]


async def check_printed(tx: AsyncSession, process: Process) -> None:
    """See that every letter of a process was printed.

    Raises:
        InlayError: ``letter_not_printed``.
    """
    if any(letter.prints == 0 for letter in await of_process(tx, process)):
        raise InlayError("letter_not_printed")


async def print_one(
    context: Context, tx: AsyncSession, process: Process, card_id: str, kind: str, actor: str
) -> bytes:
    """Make a letter, in a writing transaction that counts it first.

    Returns:
        PDF.

    Raises:
        InlayError: ``letter_gone``: there is none, or the card isn't Issued; ``letter_used_up``.
    """
    card, letter = await _printable(tx, process, card_id, kind)
    secret = secret_of(context, card, letter)
    try:
        letter.prints += 1
        holder = await tx.get_one(User, card.owner_id)
        await audit.record(
            tx,
            at=context.clock(),
            actor=actor,
            action=_PRINTED[kind],
            kind=card.kind,
            object_id=card.id,
            process=process.id,
            prints=letter.prints,
        )
        from portal.processes import letter_pdf  # reportlab is large: who prints no letter doesn't load it

        return letter_pdf.letter(
            kind,
            secret,
            card.label,
            card.serial,
            holder.name,
            holder.email,
            context.portal,
            pin_told=process.variables["pin_delivery"] != "nopin",
        )
    finally:
        secret[:] = bytes(len(secret))


async def _printable(tx: AsyncSession, process: Process, card_id: str, kind: str) -> tuple[Card, CardLetter]:
    """A card and its letter, both locked, where it may be printed."""
    card = await tx.get_one(Card, card_id, with_for_update=True, populate_existing=True)
    letter = await tx.get(CardLetter, (card_id, kind), with_for_update=True, populate_existing=True)
    if letter is None or letter.process_id != process.id or card.state != CardState.ISSUED:
        raise InlayError("letter_gone")
    if letter.prints >= MOST_PRINTS:
        raise InlayError("letter_used_up", prints=MOST_PRINTS)
    return card, letter


def secret_of(context: Context, card: Card, letter: CardLetter) -> bytearray:
    """What a letter tells; the caller wipes it.

    Raises:
        InlayError: ``letter_gone``.
    """
    if letter.kind == PIN and letter.sealed is not None:
        return context.keys.unseal(letter.sealed, _label(card.id))
    if letter.kind == PUK and card.sealed_puk is not None:
        return context.keys.unseal(card.sealed_puk, tasks.puk_label(card.id))
    raise InlayError("letter_gone")

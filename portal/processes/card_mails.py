"""Mails with a card's PIN and PUK: made in the transaction in which the card becomes Issued, each for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portal.mail import outbox
from portal.processes import card_letters, cards
from portal.store import objects
from portal.store.tables import CardLetter, User

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Card, Process

_DAYS: Final = 7 * 86_400
"""So long a secret waits for the mail server; after that it is erased."""
_WORDS: Final = {card_letters.PIN: "PIN", card_letters.PUK: "PUK"}
_TEXTS: Final = {
    card_letters.PIN: "Activate the card in Self-Service, under Cards, before its first use.\n"
    "Choose a PIN of your own there, with Unblock or change PIN, and delete this mail.",
    card_letters.PUK: "With it the card gets a new PIN when the PIN is blocked or forgotten.\n"
    "Keep it locked up, apart from the card, and delete this mail.",
}


async def tell(context: Context, tx: AsyncSession, card: Card, process: Process) -> None:
    """Send what the process's options send by mail; its PIN is with the mail alone from now on."""
    known = process.variables
    if known["pin_delivery"] == cards.EMAIL:
        letter = await tx.get(CardLetter, (card.id, card_letters.PIN))
        if letter is not None:
            await _add(context, tx, card, letter)
            await tx.delete(letter)
    # a card that took no PUK of its own has its maker's, which no mail tells
    if known["puk_delivery"] == cards.EMAIL and card.sealed_puk is not None:
        await _add(context, tx, card, CardLetter(kind=card_letters.PUK, sealed=None))


async def _add(context: Context, tx: AsyncSession, card: Card, letter: CardLetter) -> None:
    holder, word = await tx.get_one(User, card.owner_id), _WORDS[letter.kind]
    secret = card_letters.secret_of(context, card, letter)
    try:
        text = (
            f"{holder.name},\n\nthe {word} of your card {card.label} (serial number {card.serial}) is\n\n"
            f"    {secret.decode('ascii')}\n\n{_TEXTS[letter.kind]}\n\n{context.origin}\n"
        )
    finally:
        secret[:] = bytes(len(secret))
    await outbox.add(
        tx,
        context,
        outbox.Draft(
            to=holder,
            kind=f"card_{letter.kind}",
            subject=f"{word} of your card",
            text=text,
            about=objects.describe(card),
            secret=True,
            until=context.clock() + _DAYS,
        ),
    )

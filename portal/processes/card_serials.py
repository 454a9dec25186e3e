"""Serial numbers of cards in readers, as staff type them: what one may look like, and whose it is already.

A PIV card's is hexadecimal, however it is written, and kept with the zeros that stand on the card; a card tells its
number without them, so two that differ in zeros alone are one. A token's is kept to the letter: orders name it so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, not_, or_, select

from portal.errors import FieldErrors
from portal.model import states
from portal.model.objects import ObjectKind
from portal.store.database import hold_name
from portal.store.tables import Card

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncSession

_ENDED: Final = {
    ObjectKind.CARD.value: states.CARD.final,
    ObjectKind.TEMPORARY_CARD.value: states.TEMPORARY_CARD.final,
}
_LONGEST: Final = 40
"""As the options for it say."""
_TOKENS: Final = re.compile(r"[!-~]([ -~]{0,14}[!-~])?")
"""As ``protocol.words.TokenSerial``."""


def typed(text: str, driver: str, field: str) -> str:
    """A serial number that was typed, as it is stored.

    Args:
        text: what was typed.
        driver: of the card.
        field: where it was typed.

    Raises:
        FieldErrors: it can't be one.
    """
    if driver == "pkcs11":
        if not _TOKENS.fullmatch(text):
            why = "One to 16 characters are needed, exactly as the card's module tells them."
            raise FieldErrors({field: why})
        return text
    serial = text.replace(" ", "").lower()
    if not set(serial) <= set("0123456789abcdef"):
        raise FieldErrors({field: "Only digits and the letters A to F are possible."})
    return serial


def has_ended() -> ColumnElement[bool]:
    """That a card in a reader has come to its end: its number is free, and what it had may go to the next one."""
    return or_(*(and_(Card.kind == kind, Card.state.in_(final)) for kind, final in _ENDED.items()))


def same(one: str, other: str, driver: str) -> bool:
    """Whether two serial numbers are of one card, by the driver that both are for."""
    return one == other if driver == "pkcs11" else _plain(one) == _plain(other)


def forms(serial: str) -> list[str]:
    """How a PIV card's serial number may have been stored: with each number of zeros before it."""
    plain = _plain(serial)
    return [plain.zfill(length) for length in range(max(len(plain), 1), _LONGEST + 1)]


def _plain(serial: str) -> str:
    return serial.lower().lstrip("0")


async def taken_by(tx: AsyncSession, serial: str, driver: str, *, but: str = "") -> str | None:
    """The label of another card that has a serial number and hasn't come to its end.

    Two tokens are told apart to the letter, and a token is a PIV card's like where their numbers are the same: one
    card may be seen by both drivers.

    Args:
        tx: a transaction.
        serial: the number.
        driver: of the card that it is for.
        but: id of the card that isn't meant.
    """
    like = Card.serial.in_({serial, *forms(serial), *map(str.upper, forms(serial))})
    has_it = or_(Card.serial == serial, and_(Card.driver != "pkcs11", like)) if driver == "pkcs11" else like
    query = select(Card.label).where(Card.id != but, has_it, Card.kind.in_(_ENDED), not_(has_ended()))
    return (await tx.scalars(query.order_by(Card.label).limit(1))).first()


async def taken_before(tx: AsyncSession, serial: str, driver: str, *, but: str = "") -> str | None:
    """As ``taken_by``, for a card that is to have the number by this transaction: of several at once one gets it.

    No constraint of the database says so: a card that was begun and failed has the number that it told, also where
    another card object was given it meanwhile, and databases have such rows from before.

    Args:
        tx: a writing transaction that has stored nothing in the audit log yet.
        serial: the number.
        driver: of the card that is to have it.
        but: id of the card that is to have it.
    """
    await hold_name(tx, f"card serial {_plain(serial)}")
    return await taken_by(tx, serial, driver, but=but)

"""Earlier encryption keys of a card's holder: recovered from the archive on to a card that is encoded in a reader.

They leave the archive for somebody else's device, so as it is installed only when two persons have agreed
(``recovery_permits``). They go to the retired keys, newest first; how many a card takes, it tells itself, and what
doesn't fit is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from portal.encoding.binding import Recoverable
from portal.encoding.keywords import RETIRED
from portal.model.objects import CoreObject
from portal.processes import card_certificates, recovery_permits
from portal.store import objects
from portal.store.tables import Certificate
from protocol.messages import Algorithm

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.store.tables import Card

_MOST_CHARACTERS: Final = 35_500
"""Of the message that brings all certificates and keys; the rest is for the new ones, the signature, the frame."""
_KEY_CHARACTERS: Final = {Algorithm.RSA_2048: 2_400, Algorithm.P_256: 700}
"""Of an encrypted key, its challenge, and the words around them."""
NONE: Final[Mapping[str, Any]] = {
    "with_recovery": False,
    "recovered_certificates": [],
    "earlier_keys": 0,
    "earlier_agreed": False,
}


async def found(tx: AsyncSession, card: Card, keeps: Collection[str], now: int) -> dict[str, Any]:
    """Process variables: which earlier keys there are, and which of them go on to the card.

    Args:
        tx: a transaction.
        card: the card that is encoded.
        keeps: hashes of encryption keys that stay on it.
        now: seconds since 1970.
    """
    known = await card_certificates.earlier(tx, card, keeps)
    agreed = bool(known) and await recovery_permits.may_go_to_reader(tx, card.owner_id or "", now)
    written = fitting(known) if agreed else []
    return {
        "with_recovery": bool(written),
        "recovered_certificates": [objects.describe(item) for item in written],
        "earlier_keys": len(known),
        "earlier_agreed": agreed,
    }


async def recoverable(tx: AsyncSession, known: Mapping[str, Any]) -> dict[str, Recoverable]:
    """What a plan has to know of the certificates that are recovered, by their ids."""
    held = known.get("recovered_certificates", ())
    ids = [item.id for item in held if isinstance(item, CoreObject)]
    rows = await tx.scalars(select(Certificate).where(Certificate.id.in_(ids)))
    return {row.id: Recoverable(row.profile, row.algorithm) for row in rows}


def fact(known: Mapping[str, Any]) -> dict[str, str]:
    """What becomes of them, for a process's page, by its variables; nothing where there are none."""
    total = known.get("earlier_keys", 0)
    if not total:
        return {}
    if not known["earlier_agreed"]:
        return {
            "Earlier encryption keys": f"{total} in the portal's archive. They don't go on to this card: two persons "
            "have to agree first (Recover archived keys, on the page of its holder)."
        }
    put = known.get("earlier_on_card")
    if put is None:
        planned = len(known["recovered_certificates"])
        return {
            "Earlier encryption keys": f"{planned} of {total} from the portal's archive, newest first, as far as the "
            "card takes them"
        }
    left = (
        ""
        if put == total
        else f". It hadn't room for more, or takes no keys: {total - put} stay in the archive"
    )
    return {"Earlier encryption keys": f"{put} of {total} are on the card{left}"}


def fitting(known: list[Certificate]) -> list[Certificate]:
    """The newest ones: no more than a card has retired keys, and than one message holds."""
    found, characters = [], 0
    for item in known[: len(RETIRED)]:
        characters += len(item.der) * 4 // 3 + _KEY_CHARACTERS[Algorithm(item.algorithm)]
        if characters > _MOST_CHARACTERS:
            break
        found.append(item)
    return found

"""Where the cards of this machine came from, as the journal has it."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from protocol.messages import PinPolicy

if TYPE_CHECKING:
    from pathlib import Path


class JournalledCard(NamedTuple):
    """Where a card of this machine came from.

    Attributes:
        card: name of the card's file.
        portal: the portal that ordered it.
        jti: in which order.
        account: for whom, as the portal writes it.
        level: how it is kept.
        expires: seconds since 1970.
        policy: the rules that its PIN was chosen by; None for cards made before these were written down.
    """

    card: str
    portal: str
    jti: str
    account: str
    level: str
    expires: int
    policy: PinPolicy | None = None


def read_cards(path: Path) -> dict[str, JournalledCard]:
    """All cards by name, of a journal that can't be opened for want of its key; none where it can't be read."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            return all_cards(db)
    except sqlite3.Error:
        return {}


def all_cards(db: sqlite3.Connection) -> dict[str, JournalledCard]:
    """All cards by name, of an open journal."""
    rows = db.execute("SELECT card, portal, jti, account, level, expires, policy FROM cards").fetchall()
    cards = [JournalledCard(*row) for row in rows]
    return {card.card: card._replace(policy=_policy(card.policy)) for card in cards}


def _policy(written: object) -> PinPolicy | None:
    return msgspec.json.decode(written, type=PinPolicy) if isinstance(written, bytes) and written else None

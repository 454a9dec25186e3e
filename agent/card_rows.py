"""How a card stands, and how ``inlay cards`` has it."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from agent.card_shelf import ShelvedCard
    from agent.journal_cards import JournalledCard
    from agent.virtual_card_ports import Shown
    from agent.vsc.card import VirtualCard
    from protocol.errors import InlayError

_REPLACED_ONLY: Final = frozenset({"card_damaged", "card_of_other_device", "device_secret_lost"})
"""What no waiting mends: its portal makes a new card."""


class Standing(NamedTuple):
    """How a card stands.

    Attributes:
        shelved: its file.
        card: the card, where it could be loaded.
        shown: the reader it is in, or why it is in none.
    """

    shelved: ShelvedCard
    card: VirtualCard | None
    shown: Shown


def card_row(standing: Standing, record: JournalledCard | None) -> dict[str, Any]:
    """One card as ``inlay cards --json`` has it.

    Args:
        standing: how it stands.
        record: where it came from.
    """
    item, card, shown = standing
    row: dict[str, Any] = {"card": item.card_id, "level": item.level.value, "state": "unusable"}
    if item.state is not None:
        row |= {
            "label": item.state.label,
            "serial": str(int.from_bytes(item.state.serial, "big")),
            "guid": item.state.guid.hex(),
            "state": (item.state.lifecycle if card is None else card.lifecycle).value,
        }
    if record is not None:
        expires = datetime.datetime.fromtimestamp(record.expires, datetime.UTC).date().isoformat()
        row |= {"portal": record.portal, "account": record.account, "expires": expires}
    error = shown.problem
    row |= {"reader": shown.reader, "problem": None, "code": None, "next": None}
    if error is not None:
        row |= {"problem": f"{error.happened} {error.why}", "code": error.code}
        row["next"] = _next_step(error, None if record is None else record.portal)
    return row


def _next_step(error: InlayError, portal: str | None) -> str:
    if error.code in _REPLACED_ONLY and portal is not None:
        return f"{error.next_step} The card was made by https://{portal}/"
    return error.next_step

"""A card that was looked at is taken up: by a connection of its own, and only if it is still that card."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from agent.pcsc import piv_objects, piv_select
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import ManagementAlgorithm
from agent.pcsc.piv_objects import Chuid
from agent.pcsc.piv_select import Application
from protocol.errors import InlayError


@dataclass(frozen=True, slots=True)
class TakenUp:
    """What a card has said when it was taken up.

    Attributes:
        application: to SELECT.
        chuid: its CHUID.
        keys: algorithms of its management key; None: it wasn't asked.
    """

    application: Application
    chuid: Chuid | None
    keys: tuple[ManagementAlgorithm, ...] | None


def take_up(card: CardConnection, guids: Set[str | None], *, hold: bool, keys: bool) -> TakenUp:
    """Select a card's application, and see that it is the card: after the look another may have been put in.

    Args:
        card: a connection.
        guids: one of which it has to have; None among them: it may have none.
        hold: something is proved to it next, and no person is asked before: it is held from the beginning, so that it
            is selected once, and what is read of it stays so.
        keys: it is asked for the algorithms of its management key.

    Raises:
        InlayError: ``pcsc_card_removed``: it is another card; ``card_not_supported``, ``pcsc_…``.
    """
    if hold:
        card.hold()
    application, chuid = piv_select.select(card), piv_objects.read_chuid(card)
    if (None if chuid is None else chuid.guid.hex()) not in guids:
        raise InlayError("pcsc_card_removed")
    # in one go with what may be absent: an answer to this shows that the application is there
    return TakenUp(application, chuid, piv_select.management_algorithms(card) if keys else None)

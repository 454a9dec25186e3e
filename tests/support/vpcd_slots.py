"""A slot of vpcd gets its next card only when pcscd has seen the one before go.

pcscd asks vpcd every 400 ms, and vpcd takes a connection that waits for the next card. Until then pcscd shows the card
before, in the eyes of a test the new one; then it finds an empty reader, and whoever connects just then has no card.
Where a reset of a card that has gone has failed pcscd shows an empty reader at once, but sees no other card come before
it has looked itself: how often it has seen one come and go is its reader's count of events.
"""

from __future__ import annotations

import time
from typing import Final

from agent.pcsc import scard
from protocol.errors import InlayError
from tests.support import loop_watch
from tests.support.pcscd import SLOTS, PrivatePcscd
from tests.support.processes import wait_until

_COMING_AND_GOING: Final = 2
_UNSEEN_SECONDS: Final = 0.8
"""A card that was there too shortly for pcscd to see it is never counted; two of its looks."""
_taken: dict[int, tuple[int, int]] = {}
"""How often pcscd had been started when the slot's last card was put in, and the count then."""
_left: dict[int, float] = {}


def before_card(port: int) -> None:
    """Wait until pcscd takes the slot for empty; at once where none runs.

    Args:
        port: vpcd's, of the slot.
    """
    reader = SLOTS.get(port)
    if reader is None or not _runs():
        return
    with loop_watch.excused():  # tests put cards in between two awaits
        wait_until(
            lambda: not _runs() or (not _shown(reader) and _noticed(port, reader)),
            "an empty slot",
            seconds=30,
        )
    _taken[port] = PrivatePcscd.starts, _count(reader)


def after_card(port: int) -> None:
    """Remember when a slot's card was taken out."""
    _left[port] = time.monotonic()


def _noticed(port: int, reader: str) -> bool:
    starts, count = _taken.get(port, (0, 0))
    if port not in _left or starts != PrivatePcscd.starts:
        return True
    seen = _count(reader) - count >= _COMING_AND_GOING
    return seen or time.monotonic() - _left[port] > _UNSEEN_SECONDS


def _runs() -> bool:
    try:
        scard.list_readers()
    except InlayError as refused:
        if refused.code == "pcsc_no_service":
            return False
        raise
    return True


def _shown(reader: str) -> bool:
    return any(each.name == reader and each.present for each in scard.list_readers())


def _count(reader: str) -> int:
    return scard.event_count(reader) or 0

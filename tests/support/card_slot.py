"""A reader's slot in a person's hands: a card is put in, pulled out, torn out in mid-command, another one put in."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol, Self

from agent.pcsc import scard
from tests.support.processes import wait_until
from tests.support.wired_card import WiredCard

if TYPE_CHECKING:
    from collections.abc import Callable

_COMING_AND_GOING = 2


class Card(Protocol):
    """What can be in it: our own engine's card, a simulated one."""

    def transmit(self, raw: bytes, /) -> bytes:
        """Answer one APDU."""

    def reset(self) -> None:
        """Power off and on."""


class CardSlot:
    """A slot of vpcd while the ``with`` block runs; whatever is in it in the end is taken out.

    Attributes:
        torn: set once the card that is in it was torn out.
    """

    def __init__(self, port: int, reader: str) -> None:
        """An empty slot: vpcd's port on 127.0.0.1, and the reader's PC/SC name."""
        self.torn = threading.Event()
        self._port, self._reader = port, reader
        self._wired: WiredCard | None = None
        self._tears: Callable[[bytes], bool] | None = None
        self._events = 0

    def put(self, card: Card) -> None:
        """Put a card in, and see it there, unless it is torn out before that."""
        self.pull()
        self.torn.clear()
        self._events = self._count()
        self._wired = WiredCard(self._port, self._through(card), reset=card.reset)
        self._wired.__enter__()
        wait_until(lambda: self.torn.is_set() or self._present(), "the card in its reader", seconds=30)

    def pull(self) -> None:
        """Take the card out, and see that pcscd has noticed; it may have been torn out before.

        Where a reset of a card that isn't there has failed pcscd shows an empty reader before it has looked itself.
        Another card that is in by then is never shown, so its own look is waited for, which it counts.
        """
        if self._wired is None:
            return
        if not self.torn.is_set():
            self._events = self._count() - 1  # its coming is one
        self._wired.__exit__()
        self._wired = None
        wait_until(lambda: not self._present() and self._noticed(), "the reader empty", seconds=30)

    def _noticed(self) -> bool:
        """Whether pcscd has counted that the card came and went; a pcscd that was started since counts anew."""
        count = self._count()
        return count < self._events or count - self._events >= _COMING_AND_GOING

    def _count(self) -> int:
        """PC/SC's count of the reader's events."""
        count = scard.event_count(self._reader)
        assert count is not None, "the slot's reader"
        return count

    def tear_at(self, wanted: Callable[[bytes], bool]) -> None:
        """Tear the card out at the next such command: before the card has it."""
        self.torn.clear()
        self._tears = wanted

    def _through(self, card: Card) -> Callable[[bytes], bytes | None]:
        def answer(apdu: bytes) -> bytes | None:
            if self._tears is not None and self._tears(apdu):
                self._tears = None
                self.torn.set()
                return None
            return card.transmit(apdu)

        return answer

    def _present(self) -> bool:
        return any(each.name == self._reader and each.present for each in scard.list_readers())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.pull()

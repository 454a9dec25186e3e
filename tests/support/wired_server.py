"""A simulated card in a slot of vpcd that tells of every instruction before and after the card has carried it out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Self

from agent.pcsc import scard
from tests.cards.simulated import SimulatedCard
from tests.support.processes import wait_until
from tests.support.wired_card import WiredCard

OVER_PCSC: Final = "pcsc"
"""In place of a socket's path: the card is where PC/SC says."""
_NEVER_HEARD: Final = bytes.fromhex("6F00")


class WiredServer:
    """The card is in the slot while the ``with`` block runs.

    Attributes:
        path: see `OVER_PCSC`.
        disturb: called with each instruction and its side, ``before`` and ``after``; what it says yes to before
            doesn't reach the card.
    """

    path = OVER_PCSC

    def __init__(self, card: SimulatedCard, port: int) -> None:
        self._card = card
        self._wired = WiredCard.simulated(port, card)
        self._wired.answer = self._answer
        self.disturb: Callable[[int, str], bool] = lambda _instruction, _side: False

    def __enter__(self) -> Self:
        self._wired.__enter__()
        wait_until(lambda: _present() == 1, "the card")
        return self

    def __exit__(self, *_exc: object) -> None:
        self._wired.__exit__()
        wait_until(lambda: _present() == 0, "an empty reader")

    def _answer(self, apdu: bytes) -> bytes:
        if self.disturb(apdu[1], "before"):
            return _NEVER_HEARD
        answer = self._card.transmit(apdu)
        self.disturb(apdu[1], "after")
        return answer


def _present() -> int:
    return sum(reader.present for reader in scard.list_readers())

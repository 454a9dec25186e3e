"""A simulated card in a slot of vpcd that tells of every command before and after the card has carried it out.

A card that is torn out comes back only when pcscd has told that it went. pcscd asks vpcd every 400 ms, and vpcd takes a
connection that waits for the next card: one that comes sooner is in pcscd's eyes a card that never went. Where a reset
of the card has failed meanwhile pcscd shows an empty reader at once, but counts no event until it has asked; one that
is there again by then isn't shown at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Self

from smartcard import scard as pcsc

from agent.pcsc import scard
from tests.cards.simulated import SimulatedCard
from tests.support.processes import wait_until
from tests.support.wired_card import WiredCard

OVER_PCSC: Final = "pcsc"
"""In place of a socket's path: the card is where PC/SC says."""
_NEVER_HEARD: Final = bytes.fromhex("6F00")
BRINGS: Final = 0x100
"""Added to an instruction that brings a PIN, a key or a proof, and that without it only asks.

VERIFY without a PIN asks how many tries are left; GENERAL AUTHENTICATE of the management key asks for a challenge or a
witness before it proves anything; Yubico's IMPORT KEY and SET MANAGEMENT KEY without data are how a host finds out
whether the card has them.
"""
USES_KEY: Final = 0x200
"""Added to GENERAL AUTHENTICATE with a key of a slot: a signature or a decryption."""
_AUTHENTICATE: Final = 0x87
_MANAGEMENT: Final = 0x9B
_ASK_WITHOUT_DATA: Final = frozenset({0x20, 0xFE, 0xFF})
_QUESTIONS: Final = frozenset({bytes.fromhex("7C028000"), bytes.fromhex("7C028100")})


def kind(apdu: bytes) -> int:
    """What a command with short lengths is: its instruction, with `BRINGS` or `USES_KEY`."""
    instruction, p2 = apdu[1], apdu[3]
    if instruction == _AUTHENTICATE:
        if p2 != _MANAGEMENT:
            return instruction + USES_KEY
        return instruction + (0 if apdu[5 : 5 + apdu[4]] in _QUESTIONS else BRINGS)
    brings = instruction in _ASK_WITHOUT_DATA and len(apdu) > 5
    return instruction + (BRINGS if brings else 0)


class WiredServer:
    """The card is in the slot while the ``with`` block runs.

    Attributes:
        path: see `OVER_PCSC`.
        disturb: called with the `kind` of each command and its side, ``before`` and ``after``; what it says yes to
            before doesn't reach the card.
        tear: asked by the `kind` of each command on which side of it the card is torn out, ``before`` or ``after``;
            None: it stays. It is put back by itself.
    """

    path = OVER_PCSC

    def __init__(self, card: SimulatedCard, port: int) -> None:
        self._card, self._port = card, port
        self._wired = self._wire()
        self._hand: threading.Thread | None = None
        self.tear: Callable[[int], str | None] = lambda _kind: None
        self.disturb: Callable[[int, str], bool] = lambda _kind, _side: False

    def __enter__(self) -> Self:
        self._wired.__enter__()
        wait_until(lambda: _present() == 1, "the card")
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._hand is not None:
            self._hand.join()
        self._wired.__exit__()
        wait_until(lambda: _present() == 0, "an empty reader")

    def _wire(self) -> WiredCard:
        wired = WiredCard.simulated(self._port, self._card)
        wired.answer = self._answer
        return wired

    def _answer(self, apdu: bytes) -> bytes | None:
        command = kind(apdu)
        torn = self.tear(command)
        if torn == "before":
            self._tear_out()
            return None
        if self.disturb(command, "before"):
            return _NEVER_HEARD
        answer = self._card.transmit(apdu)
        self.disturb(command, "after")
        if torn is None:
            return answer
        self._tear_out()
        return None

    def _tear_out(self) -> None:
        self._card.reset()
        self._hand = threading.Thread(target=self._put_back, args=(_events(),))
        self._hand.start()

    def _put_back(self, events: int) -> None:
        wait_until(lambda: _events() > events and _present() == 0, "an empty reader")
        self._wired.__exit__()
        self._wired = self._wire()
        self._wired.__enter__()


def _present() -> int:
    return sum(reader.present for reader in scard.list_readers())


def _events() -> int:
    """How often cards have come and gone, as pcscd counts it: the upper half of each reader's state."""
    _, context = pcsc.SCardEstablishContext(pcsc.SCARD_SCOPE_USER)
    try:
        _, names = pcsc.SCardListReaders(context, [])
        _, states = pcsc.SCardGetStatusChange(
            context, 0, [(name, pcsc.SCARD_STATE_UNAWARE) for name in names]
        )
        return sum(event >> 16 for _, event, _ in states)
    finally:
        pcsc.SCardReleaseContext(context)

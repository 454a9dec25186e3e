"""One simulated card in one reader of a real pcscd, and the clients that take turns with it.

The card answers at once, and counts every APDU that reaches it, whoever has sent it.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from smartcard.CardConnection import CardConnection as PyscardConnection
from smartcard.scard import SCARD_LEAVE_CARD, SCARD_SHARE_SHARED
from smartcard.System import readers
from ykman.pcsc import ScardSmartCardConnection
from yubikit.piv import PivSession

from agent.pcsc import scard
from tests.cards.profiles import Profile
from tests.cards.simulated import SimulatedCard
from tests.support import isolation
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import wait_until
from tests.support.wired_card import WiredCard


@dataclass
class Runs:
    """What one client took: seconds of each round, APDUs of the last."""

    seconds: list[float] = field(default_factory=list)
    apdus: int = 0

    @property
    def median(self) -> float:
        """Milliseconds."""
        return 1000 * statistics.median(self.seconds)

    @property
    def least(self) -> float:
        """Milliseconds."""
        return 1000 * min(self.seconds)


class OneCard:
    """The card in its reader.

    Attributes:
        reader: the reader's PC/SC name.
        card: the card.
    """

    def __init__(self, reader: str, card: SimulatedCard) -> None:
        self.reader, self.card = reader, card

    def measure(self, runs: Runs, client: Callable[[], object]) -> list[bytes]:
        """One round of one client; the APDUs that it sent."""
        self.card.reset()
        before, begun = len(self.card.commands), time.perf_counter()
        client()
        runs.seconds.append(time.perf_counter() - begun)
        sent = self.card.commands[before:]
        runs.apdus = len(sent)
        return sent

    @contextlib.contextmanager
    def pyscard(self) -> Iterator[PyscardConnection]:
        """A connection by pyscard alone."""
        found = next(each for each in readers() if each.name == self.reader)
        connection = found.createConnection()
        connection.connect(
            PyscardConnection.T1_protocol, mode=SCARD_SHARE_SHARED, disposition=SCARD_LEAVE_CARD
        )
        try:
            yield connection
        finally:
            connection.disconnect()

    @contextlib.contextmanager
    def yubikit(self) -> Iterator[PivSession]:
        """A session by Yubico's own library."""
        with self.pyscard() as connection, ScardSmartCardConnection(connection) as wrapped:  # type: ignore[no-untyped-call]
            yield PivSession(wrapped)

    def replay(self, apdus: Sequence[bytes]) -> None:
        """These bytes, and nothing else. Answers to a card's question fit, because its witness is a known one."""
        with self.pyscard() as connection:
            for apdu in apdus:
                connection.transmit(list(apdu), PyscardConnection.T1_protocol)


@contextlib.contextmanager
def one_card(profile: Profile, seconds: float = 0.0) -> Iterator[OneCard]:
    """A card of a profile in the first reader of a pcscd of its own.

    Args:
        profile: what the card is like.
        seconds: it waits so long before each answer.
    """
    isolation.enter()
    with tempfile.TemporaryDirectory() as folder, PrivatePcscd(Path(folder)) as pcscd:
        card = SimulatedCard(profile)
        card.random = bytes
        with WiredCard.simulated(pcscd.vpcd_port, card) as wired:
            wired.answer = partial(_after, seconds, card) if seconds else card.transmit
            wait_until(lambda: scard.list_readers()[0].present, "the card")
            yield OneCard(pcscd.readers[0], card)


def _after(seconds: float, card: SimulatedCard, apdu: bytes) -> bytes:
    answer = card.transmit(apdu)
    time.sleep(seconds)
    return answer

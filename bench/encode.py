"""The same encoding by Inlay, by yubikit, and by a replay of Inlay's own APDUs: how many APDUs, and how long.

``python -m bench.encode [--rounds N]``. One simulated card (it answers at once; every APDU is counted in it) in one
reader of a real pcscd, the three alternated: select, authenticate with the management key (AES-192), generate P-256
in 9A, write its certificate and a CHUID, change the PIN and back. The replay sends the bytes of Inlay's last round
through pyscard and nothing else: what it takes is the card's and pcscd's time.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from smartcard.CardConnection import CardConnection as PyscardConnection
from smartcard.scard import SCARD_LEAVE_CARD, SCARD_SHARE_SHARED
from smartcard.System import readers
from ykman.pcsc import ScardSmartCardConnection
from yubikit.piv import KEY_TYPE, OBJECT_ID, SLOT, PivSession

from agent.pcsc import piv_authenticate, piv_cipher, piv_keys, piv_objects, piv_pin, piv_select, scard
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import CHUID, PIN, KeyAlgorithm, ManagementAlgorithm
from tests.cards.profiles import AES_192, PROFILES
from tests.cards.simulated import PIN as OLD_PIN
from tests.cards.simulated import SimulatedCard, factory_key
from tests.support import isolation
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import wait_until
from tests.support.virtual_cards import Issuer
from tests.support.wired_card import WiredCard

ROUNDS: Final = 30
_CARD: Final = next(profile for profile in PROFILES if profile.management == (AES_192,))
_KEY: Final = factory_key(AES_192)
_NEW_PIN: Final = b"246810"
_EXPIRES: Final = datetime.date(2030, 12, 31)


@dataclass
class Runs:
    """What one client took: seconds of each round, APDUs of the last."""

    name: str
    seconds: list[float] = field(default_factory=list)
    apdus: int = 0

    def __str__(self) -> str:
        """One line."""
        return (
            f"encode: {self.name:16} {self.apdus:3} APDUs, {1000 * statistics.median(self.seconds):6.1f} ms"
        )


class Bench:
    """One card in one reader."""

    def __init__(self, reader: str, card: SimulatedCard) -> None:
        self._reader, self._card, self._issuer = reader, card, Issuer()
        self._certificate = b""
        self._recorded: list[bytes] = []

    def inlay(self) -> None:
        """By Inlay's driver."""
        with (
            scard.Context() as context,
            CardConnection(context.connect(self._reader), self._reader) as card,
            card.held(),
        ):
            piv_select.select(card)
            question = piv_authenticate.ask(card, ManagementAlgorithm.AES_192, mutual=True)
            piv_authenticate.prove(card, question, piv_cipher.answer(_KEY, question))
            public = piv_keys.generate(card, 0x9A, KeyAlgorithm.P_256)
            self._certificate = self._certificate or self._issuer.issue(public, 0x9A)
            piv_objects.write_certificate(card, 0x9A, self._certificate)
            piv_objects.write_chuid(card, piv_objects.fresh_chuid(_EXPIRES))
            piv_pin.change(card, PIN, OLD_PIN, _NEW_PIN)
            piv_pin.change(card, PIN, _NEW_PIN, OLD_PIN)

    def yubikit(self) -> None:
        """By Yubico's own library."""
        with self._pyscard() as connection, ScardSmartCardConnection(connection) as wrapped:  # type: ignore[no-untyped-call]
            session = PivSession(wrapped)
            session.authenticate(_KEY)
            session.generate_key(SLOT.AUTHENTICATION, KEY_TYPE.ECCP256)
            certificate = x509.load_der_x509_certificate(self._certificate)
            session.put_certificate(SLOT.AUTHENTICATION, certificate)
            session.put_object(OBJECT_ID.CHUID, self._card.objects[CHUID])
            session.change_pin(OLD_PIN.decode(), _NEW_PIN.decode())
            session.change_pin(_NEW_PIN.decode(), OLD_PIN.decode())

    def replay(self) -> None:
        """The bytes of Inlay's last round, and nothing else; they fit, because the card's witness is a known one."""
        with self._pyscard() as connection:
            for apdu in self._recorded:
                connection.transmit(list(apdu), PyscardConnection.T1_protocol)

    def run(self, runs: Runs, client: Callable[[], None]) -> None:
        """One round of one client, measured; what it sent is kept when it was Inlay."""
        self._card.reset()
        before, begun = len(self._card.commands), time.perf_counter()
        client()
        runs.seconds.append(time.perf_counter() - begun)
        sent = self._card.commands[before:]
        runs.apdus = len(sent)
        if client == self.inlay:
            self._recorded = sent

    @contextlib.contextmanager
    def _pyscard(self) -> Iterator[PyscardConnection]:
        found = next(each for each in readers() if each.name == self._reader)
        connection = found.createConnection()
        connection.connect(
            PyscardConnection.T1_protocol, mode=SCARD_SHARE_SHARED, disposition=SCARD_LEAVE_CARD
        )
        try:
            yield connection
        finally:
            connection.disconnect()


def main() -> int:
    """Run, and print; 1 when Inlay needs more APDUs than yubikit."""
    parser = argparse.ArgumentParser(prog="python -m bench.encode")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    isolation.enter()
    with tempfile.TemporaryDirectory() as folder, PrivatePcscd(Path(folder)) as pcscd:
        card = SimulatedCard(_CARD)
        card.random = bytes
        with WiredCard.simulated(pcscd.vpcd_port, card):
            wait_until(lambda: scard.list_readers()[0].present, "the card")
            bench = Bench(pcscd.readers[0], card)
            inlay, yubikit, replay = Runs("Inlay"), Runs("yubikit"), Runs("the same APDUs")
            for _ in range(options.rounds):
                bench.run(inlay, bench.inlay)
                bench.run(yubikit, bench.yubikit)
                bench.run(replay, bench.replay)
    for runs in (inlay, yubikit, replay):
        print(runs)
    own = statistics.median(inlay.seconds) - statistics.median(replay.seconds)
    print(f"encode: Inlay's own part, the certificate's and the key's checks included: {1000 * own:.1f} ms")
    return int(inlay.apdus > yubikit.apdus)


if __name__ == "__main__":
    sys.exit(main())

"""The same encoding by Inlay, by yubikit, and by a replay of Inlay's own APDUs: how many APDUs, and how long.

``python -m bench.encode [--rounds N]``. One simulated card (it answers at once; every APDU is counted in it) in one
reader of a real pcscd, the three alternated: select, authenticate with the management key (AES-192), generate P-256
in 9A, write its certificate and a CHUID, change the PIN and back. The replay sends the bytes of Inlay's last round
through pyscard and nothing else: what it takes is the card's and pcscd's time.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from typing import Final

from cryptography import x509
from yubikit.piv import KEY_TYPE, OBJECT_ID, SLOT

from agent.pcsc import piv_authenticate, piv_cipher, piv_keys, piv_objects, piv_pin, piv_select, scard
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import CHUID, PIN, KeyAlgorithm, ManagementAlgorithm
from bench.one_card import OneCard, Runs, one_card
from tests.cards.profiles import AES_192, PROFILES
from tests.cards.simulated import PIN as OLD_PIN
from tests.cards.simulated import factory_key
from tests.support.virtual_cards import Issuer

ROUNDS: Final = 30
_CARD: Final = next(profile for profile in PROFILES if profile.management == (AES_192,))
_KEY: Final = factory_key(AES_192)
_NEW_PIN: Final = b"246810"
_EXPIRES: Final = datetime.date(2030, 12, 31)


class Encoding:
    """The encoding by each of its clients."""

    def __init__(self, place: OneCard) -> None:
        self._place, self._issuer = place, Issuer()
        self._certificate = b""

    def inlay(self) -> None:
        """By Inlay's driver."""
        reader = self._place.reader
        with (
            scard.Context() as context,
            CardConnection(context.connect(reader), reader) as card,
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
        with self._place.yubikit() as session:
            session.authenticate(_KEY)
            session.generate_key(SLOT.AUTHENTICATION, KEY_TYPE.ECCP256)
            certificate = x509.load_der_x509_certificate(self._certificate)
            session.put_certificate(SLOT.AUTHENTICATION, certificate)
            session.put_object(OBJECT_ID.CHUID, self._place.card.objects[CHUID])
            session.change_pin(OLD_PIN.decode(), _NEW_PIN.decode())
            session.change_pin(_NEW_PIN.decode(), OLD_PIN.decode())


def main() -> int:
    """Run, and print; 1 when Inlay needs more APDUs than yubikit."""
    parser = argparse.ArgumentParser(prog="python -m bench.encode")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    inlay, yubikit, replay = Runs(), Runs(), Runs()
    with one_card(_CARD) as place:
        encoding = Encoding(place)
        for _ in range(options.rounds):
            sent = place.measure(inlay, encoding.inlay)
            place.measure(yubikit, encoding.yubikit)
            place.measure(replay, lambda: place.replay(sent))  # noqa: B023 - called at once
    for name, runs in (("Inlay", inlay), ("yubikit", yubikit), ("the same APDUs", replay)):
        print(f"encode: {name:16} {runs.apdus:3} APDUs, {runs.median:6.1f} ms")
    own = inlay.median - replay.median
    print(f"encode: Inlay's own part, the certificate's and the key's checks included: {own:.1f} ms")
    return int(inlay.apdus > yubikit.apdus)


if __name__ == "__main__":
    sys.exit(main())

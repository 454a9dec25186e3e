"""How `tests.faults.tears` judges a card that was disturbed: what it has lost, and which tries nobody agreed to."""

from __future__ import annotations

import copy
import gzip
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.cards.simulated import SimulatedCard, Status, read
from tests.faults.tear_jobs import Job
from tests.faults.tear_processes import Ended
from tests.support.fake_portal import FakePortal
from tests.support.issued_ledger import Issued, Ledger, Standing

CERTIFICATES: Final = {
    0x9A: 0x5FC105,
    0x9C: 0x5FC10A,
    0x9D: 0x5FC10B,
    **{0x82 + number: 0x5FC10D + number for number in range(20)},
}
"""Slot of a key to the tag of its certificate (SP 800-73pt1-5, table 3)."""
_CERTIFICATE, _CERT_INFO, _PACKED = 0x70, 0x71, b"\x01"


@dataclass
class Spent:
    """Tries of PIN and PUK that a person has spent, and knew it."""

    pin: int = 0
    puk: int = 0


@dataclass
class Card:
    """A card and what is watched of it."""

    card: SimulatedCard
    lowest: tuple[int, int] = field(init=False)
    start: tuple[bytes, object] = field(init=False)
    keys: dict[int, object] = field(init=False)
    """those that it had in the beginning, by slot"""

    def __post_init__(self) -> None:
        self.lowest = (self.card.pin_left, self.card.puk_left)
        self.start = self.state()
        self.keys = {slot: key for slot, (_, key) in self.card.keys.items()}

    @property
    def tries(self) -> tuple[int, int]:
        """How many it has of PIN and PUK, when none is spent."""
        return self.card.profile.pin_tries, self.card.profile.puk_tries

    def look(self) -> None:
        """Note how many tries there are."""
        pin, puk = self.lowest
        self.lowest = (min(pin, self.card.pin_left), min(puk, self.card.puk_left))

    def state(self) -> tuple[bytes, object]:
        """Everything on it that an order changes: the PUK, and the rest."""
        card = self.card
        keys = {slot: id(key) for slot, (_, key) in card.keys.items()}
        return card.puk, (copy.deepcopy(card.objects), keys, card.pin, copy.copy(card.keys_by_algorithm))


def asked_for(ended: Ended) -> Spent:
    """How often the person was asked which PIN, and which PUK, the card has."""
    return Spent(
        sum("isn't known" in each for each in ended.asked),
        sum("nobody knows" in each for each in ended.asked),
    )


def touched(job: Job, watched: Card) -> list[str]:
    """What an order has done that was undone, and had never said that it changes the card."""
    faults = []
    if watched.state() != watched.start:
        faults.append("it was undone before it said that it changes the card, and the card is changed")
    if job.blocks and watched.lowest != watched.tries:
        faults.append(f"it was undone, and didn't say that tries went down to {watched.lowest}")
    return faults


def lost(job: Job, watched: Card, spent: Spent) -> list[str]:
    """What the card has lost in the end."""
    faults, card = [], watched.card
    pin, puk = watched.tries
    allowed = (0, 0) if job.blocks or job.blocked else (pin - spent.pin, puk - spent.puk)
    if watched.lowest != allowed:
        faults.append(f"tries went down to {watched.lowest}, and the person spent {spent}")
    if job.blocks and (card.pin_left, card.puk_left) != (0, 0):
        faults.append("the card isn't blocked")
    if job.blocked and (card.pin_left, card.puk_left) != watched.tries:
        faults.append("the card isn't usable again")
    has_puk, rest = watched.state()
    if has_puk != (job.puks[1] if job.gives_puk else watched.start[0]):
        faults.append("the card hasn't the PUK that it should have")
    if job.keeps and rest != watched.start[1]:
        faults.append("something was changed on the card that should have stayed")
    return faults


def left_behind(job: Job, watched: Card) -> list[str]:
    """Which keys of whoever had the card before are on it still, and which of their certificates."""
    faults = []
    for slot in job.clears:
        _, key = watched.card.keys.get(slot, (None, None))
        if key is not None and key is watched.keys.get(slot):
            faults.append(f"the key of somebody else is in {slot:02X}")
        if CERTIFICATES[slot] in watched.card.objects:
            faults.append(f"the certificate of somebody else is in {slot:02X}")
    return faults


def incomplete(card: SimulatedCard, portal: FakePortal) -> list[str]:
    """What the card lacks of the last order's certificates."""
    return [
        f"the certificate of {slot} isn't on the card"
        for slot, certificate in portal.ca.issued.items()
        if not holds(card, slot, certificate)
    ]


def without_card(card: SimulatedCard, ledger: Ledger) -> list[str]:
    """Which certificates count as valid, or may yet, and aren't on the card with their keys; every order has ended."""
    faults = [
        f"the certificate {_named(each)} is on hold for ever" for each in ledger.standing(Standing.ON_HOLD)
    ]
    for each in ledger.standing(Standing.VALID):
        if not holds(card, each.slot, each.certificate):
            faults.append(f"the certificate {_named(each)} is valid, and isn't on the card")
        _, key = card.keys.get(int(each.slot, 16), (None, None))
        if key is None or key.public_key() != each.certificate.public_key():
            faults.append(f"the certificate {_named(each)} is valid, and its key isn't on the card")
    return faults


def holds(card: SimulatedCard, slot: str, certificate: x509.Certificate) -> bool:
    """Whether a certificate is where a card has those of a slot, as it is or packed (SP 800-73pt1-5, table 11)."""
    try:
        content = dict(read(card.objects.get(CERTIFICATES[int(slot, 16)], b"")))
    except (Status, IndexError):
        return False
    found, info = content.get(_CERTIFICATE, b""), content.get(_CERT_INFO, b"")
    return certificate.public_bytes(Encoding.DER) == (gzip.decompress(found) if info == _PACKED else found)


def _named(issued: Issued) -> str:
    return f"of {issued.slot} by {issued.order}"

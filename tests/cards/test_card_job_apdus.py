"""How many APDUs each job costs, so that none creeps in: by the driver, and as an order has it done."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.pcsc import piv_objects
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import ManagementAlgorithm
from tests.cards.profiles import P_256, PROFILES, Profile
from tests.cards.simulated import SimulatedCard, SimulatedLink, factory_key
from tests.support.card_in_hand import card_in_hand
from tests.support.card_jobs import AS_ORDER, NEW_PIN, CardFacts, as_order, by_driver
from tests.support.physical_orders import GUID, personalised
from tests.support.virtual_cards import Issuer

YUBICO = next(profile for profile in PROFILES if profile.name == "everything of Yubico's, AES-192")
STANDARD = next(profile for profile in PROFILES if profile.name.startswith("standard card"))

DRIVER = {
    "change PIN": 2,
    "unblock by PUK": 2,
    "verify PIN": 2,
    "write certificate": 5,
    "read certificate": 3,
    "read card": 37,
    "generate P-256": 4,
    "sign by P-256": 3,
}
"""SELECT, and what the job is; the management key is two more, and a certificate is written and read in two pieces."""
ORDER = {
    "change PIN": 11,
    "unblock by PUK": 11,
    "verify PIN": 11,
    "write certificate": 16,
    "read certificate": 10,
    "read card": 39,
    "generate P-256": 12,
    "sign by P-256": 14,
}
"""The look at the card is six of these, ten where all is asked that it can do, and its identity two.

Where a person is asked before anything is proved it is selected once more when it is held.
"""
ON_STANDARD_CARD = ORDER | {
    "change PIN": 13,
    "unblock by PUK": 13,
    "verify PIN": 13,
    "write certificate": 23,
    "read certificate": 11,
    "read card": 41,
    "generate P-256": 17,
    "sign by P-256": 16,
}
"""It has no metadata: tries and algorithms cost more questions, and a key is told by its certificate.

Where nothing follows a command that it doesn't have, one more sees that it was the card that said so, and not one whose
power was cut.
"""


class Place:
    """A card with a key and its certificate in 9A."""

    def __init__(self, profile: Profile) -> None:
        self.card: SimulatedCard = personalised(profile)
        private = ec.generate_private_key(ec.SECP256R1())
        der = Issuer().issue(private.public_key(), 0x9A)
        assert 260 < len(der) < 490  # two pieces each way
        algorithm = profile.management[-1]
        self.facts = CardFacts(ManagementAlgorithm(algorithm), factory_key(algorithm), der)
        self.card.keys[0x9A] = (P_256, private)
        self.card.objects[0x5FC105] = piv_objects.certificate_object(der)

    def connect(self) -> CardConnection:
        return CardConnection(SimulatedLink(self.card), "Reader")


def done(place: Place, job: str) -> bool:
    """Whether a job that changes the PIN, or needs it, has done so; counted is only what was done."""
    changes = job in ("change PIN", "unblock by PUK")
    return place.card.pin.startswith(NEW_PIN) == changes and place.card.pin_left == 3


@pytest.mark.parametrize("job", DRIVER)
def test_the_driver_needs_no_more(job: str) -> None:
    place = Place(YUBICO)
    with place.connect() as card:
        by_driver(card, job, place.facts)
    assert done(place, job)
    assert len(place.card.commands) == DRIVER[job]


@pytest.mark.parametrize(
    ("profile", "expected"), [(YUBICO, ORDER), (STANDARD, ON_STANDARD_CARD)], ids=["Yubico", "standard"]
)
@pytest.mark.parametrize("job", AS_ORDER)
async def test_an_order_needs_no_more(profile: Profile, expected: dict[str, int], job: str) -> None:
    place = Place(profile)
    card = card_in_hand(place.connect, GUID, place.facts.key, all_features=job == "read card")
    await as_order(card, job, place.facts)
    assert done(place, job)
    assert len(place.card.commands) == expected[job]
    assert not place.card.pin_ok
    assert not place.card.managed

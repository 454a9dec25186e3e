"""The judgement of `make tears` sees a certificate that counts as valid and isn't on the card with its key."""

from __future__ import annotations

import gzip

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.messages import (
    Account,
    Binding,
    CertificateRequest,
    Confirmation,
    KeyOrder,
    Order,
    Requests,
)
from tests.cards.profiles import P_256
from tests.cards.simulated import SimulatedCard, tlv
from tests.faults.tear_jobs import JOBS, PROFILE
from tests.faults.tear_judgement import CERTIFICATES, Card, holds, left_behind, without_card
from tests.support.fake_issuing import FakeCA
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.issued_ledger import Standing

CERTIFICATE_OF_9A = CERTIFICATES[0x9A]


@pytest.fixture
def ca() -> FakeCA:
    return FakeCA()


@pytest.fixture
def card() -> SimulatedCard:
    return SimulatedCard(PROFILE)


def ordered(number: int, *keys: KeyOrder, card: str = "card-1") -> Order:
    return Order(
        iss="localhost",
        aud="inlay",
        jti=f"order-{number}",
        iat=0,
        exp=120,
        cnf=Confirmation(jkt=""),
        nonce="",
        origin="https://localhost",
        account=Account(id="7", name="Alex Example", user_id="alex@example.org"),
        binding=Binding.NONE,
        resume_within=60,
        parameters=msgspec.structs.replace(JOBS["extend"].operation, card=card, keys=list(keys)),
    )


def certified(ca: FakeCA, card: SimulatedCard, order: Order, *, running: bool = True) -> None:
    """The card makes the order's keys, and gets what the CA issues for them."""
    made = {}
    for key in order.parameters.keys:  # type: ignore[union-attr]
        private = ec.generate_private_key(ec.SECP256R1())
        card.keys[int(key.slot, 16)] = (P_256, private)
        made[key.slot] = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    requests = [CertificateRequest(slot, public_key=public) for slot, public in made.items()]
    ca.answer(order, Requests(guid="0f" * 16, serial=None, requests=requests), None, running=running)
    card.objects[CERTIFICATE_OF_9A] = certificate_object(ca.issued["9A"].public_bytes(Encoding.DER))


def certificate_object(der: bytes, *, packed: bool = False) -> bytes:
    """As a card has it: SP 800-73pt1-5, table 11."""
    return tlv("70", gzip.compress(der) if packed else der) + bytes((0x71, 1, packed, 0xFE, 0))


def standings(ca: FakeCA) -> list[Standing]:
    return [entry.standing for entry in ca.ledger.entries]


def test_a_valid_certificate_that_isnt_on_the_card_is_seen(ca: FakeCA, card: SimulatedCard) -> None:
    order = ordered(1, AUTHENTICATION)
    certified(ca, card, order)
    ca.ledger.finished(order)
    assert without_card(card, ca.ledger) == []
    del card.objects[CERTIFICATE_OF_9A]
    assert without_card(card, ca.ledger) == [
        "the certificate of 9A by order-1 is valid, and isn't on the card"
    ]


def test_a_certificate_that_is_packed_on_the_card_is_on_it(ca: FakeCA, card: SimulatedCard) -> None:
    order = ordered(1, AUTHENTICATION)
    certified(ca, card, order)
    der = ca.issued["9A"].public_bytes(Encoding.DER)
    card.objects[CERTIFICATE_OF_9A] = certificate_object(der[:-1] + bytes((der[-1] ^ 1,)), packed=True)
    assert not holds(card, "9A", ca.issued["9A"])
    card.objects[CERTIFICATE_OF_9A] = certificate_object(der, packed=True)
    assert holds(card, "9A", ca.issued["9A"])


@pytest.mark.parametrize(
    "key", [None, (P_256, ec.generate_private_key(ec.SECP256R1()))], ids=["none", "other"]
)
def test_a_valid_certificate_whose_key_isnt_on_the_card_is_seen(
    ca: FakeCA, card: SimulatedCard, key: tuple[int, object] | None
) -> None:
    order = ordered(1, AUTHENTICATION)
    certified(ca, card, order)
    ca.ledger.finished(order)
    del card.keys[0x9A]
    if key is not None:
        card.keys[0x9A] = key
    (fault,) = without_card(card, ca.ledger)
    assert fault == "the certificate of 9A by order-1 is valid, and its key isn't on the card"


def test_one_that_nobody_releases_or_revokes_is_seen(ca: FakeCA, card: SimulatedCard) -> None:
    certified(ca, card, ordered(1, AUTHENTICATION))
    assert without_card(card, ca.ledger) == ["the certificate of 9A by order-1 is on hold for ever"]


def test_one_that_comes_when_its_order_was_undone_is_revoked(ca: FakeCA, card: SimulatedCard) -> None:
    certified(ca, card, ordered(1, AUTHENTICATION), running=False)
    assert standings(ca) == [Standing.REVOKED]


@pytest.mark.parametrize("changing", [False, True])
def test_an_order_that_was_undone_revokes_its_own_and_half_done_what_its_slots_had(
    ca: FakeCA, card: SimulatedCard, changing: bool
) -> None:
    first, second, others = (
        ordered(1, AUTHENTICATION, SIGNATURE),
        ordered(2, AUTHENTICATION),
        ordered(3, card="2"),
    )
    certified(ca, card, first)
    ca.ledger.finished(first)
    certified(ca, card, second)
    ca.ledger.undone(others, changing=True)
    ca.ledger.undone(second, changing=changing)
    before = Standing.REVOKED if changing else Standing.VALID
    assert standings(ca) == [before, Standing.VALID, Standing.REVOKED]


def test_an_order_that_is_finished_supersedes_what_its_slots_had(ca: FakeCA, card: SimulatedCard) -> None:
    first, second = ordered(1, AUTHENTICATION, SIGNATURE), ordered(2, AUTHENTICATION)
    for order in (first, second):
        certified(ca, card, order)
        ca.ledger.finished(order)
    assert standings(ca) == [Standing.REVOKED, Standing.VALID, Standing.VALID]


@pytest.mark.parametrize("slot", JOBS["hand over"].clears)
def test_a_key_of_somebody_else_that_was_to_go_is_seen(card: SimulatedCard, slot: int) -> None:
    job = JOBS["hand over"]
    for each in job.clears:
        card.keys[each] = (P_256, ec.generate_private_key(ec.SECP256R1()))
        card.objects[CERTIFICATES[each]] = b"certificate"
    watched = Card(card)
    for each in job.clears:
        if each != slot:
            del card.keys[each], card.objects[CERTIFICATES[each]]
    assert left_behind(job, watched) == [
        f"the key of somebody else is in {slot:02X}",
        f"the certificate of somebody else is in {slot:02X}",
    ]
    del card.objects[CERTIFICATES[slot]]
    card.keys[slot] = (
        P_256,
        ec.generate_private_key(ec.SECP256R1()),
    )  # written over, where it can't be deleted
    assert left_behind(job, watched) == []

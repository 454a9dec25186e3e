"""What Inlay's host does with a card, on independent cards of each kind, over real pcscd: the wrong values first."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.pcsc import piv_authenticate, piv_cipher, piv_objects, piv_pin, piv_select, scard
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import ManagementAlgorithm
from protocol.errors import InlayError
from tests.cards.independent import personality
from tests.cards.independent.in_reader import IndependentProfile, InReader, profile_of
from tests.cards.profiles import P_256
from tests.cards.simulated import factory_key
from tests.support.card_jobs import BY_DRIVER, CardFacts, by_driver
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import wait_until
from tests.support.virtual_cards import Issuer
from tests.support.wired_card import WiredCard

pytestmark = pytest.mark.interop

ONE_OF_EACH = [
    profile_of(kind)
    for kind in (
        personality.PURE,
        personality.PURE_T0,
        personality.PIVAPPLET,
        personality.OPENFIPS201,
        personality.CANOKEY,
        personality.NITROKEY,
        personality.YUBIKEY_5_7,
    )
]


@pytest.mark.parametrize("profile", ONE_OF_EACH, ids=lambda profile: profile.name)
def test_every_job(pcscd: PrivatePcscd, profile: IndependentProfile) -> None:
    held = InReader(profile)
    inner, reader = held.inner, pcscd.readers[3]
    private = ec.generate_private_key(ec.SECP256R1())
    der = Issuer().issue(private.public_key(), 0x9A)
    held.keys[0x9A] = (P_256, private)
    held.objects[0x5FC105] = piv_objects.certificate_object(der)
    algorithm = ManagementAlgorithm(held.management)
    facts = CardFacts(algorithm, factory_key(algorithm), der)
    pin, puk, atr = held.pin, held.puk, inner.personality.atr
    with WiredCard(pcscd.vpcd_ports[3], inner.transmit, atr, reset=inner.reset):
        wait_until(
            lambda: any(each.name == reader and each.atr == atr for each in scard.list_readers()), "a card"
        )
        with scard.Context() as context, CardConnection(context.connect(reader), reader) as card:
            with card.held():
                piv_select.select(card)
                with pytest.raises(InlayError) as caught:
                    piv_pin.verify(card, b"000000")
                assert (caught.value.code, caught.value.fields) == (
                    "card_pin_wrong",
                    {"tries": profile.pin_tries - 1},
                )
                question = piv_authenticate.ask(card, algorithm, mutual=True)
                wrong = piv_cipher.answer(bytes(range(64, 64 + algorithm.key_bytes)), question)
                with pytest.raises(InlayError):
                    piv_authenticate.prove(card, question, wrong)
                assert not inner.admin
            for job in BY_DRIVER:
                by_driver(card, job, facts)
                held.pin, held.puk = pin, puk
            with card.held():
                piv_select.select(card)
                assert piv_objects.read_certificate(card, 0x9A) == der
    wait_until(lambda: not any(each.name == reader and each.present for each in scard.list_readers()), "none")
    assert {0x87, 0x47, 0xDB, 0xCB} <= {instruction for instruction, _ in inner.journal}

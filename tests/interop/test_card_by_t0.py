"""Cards that speak T=0 alone, as most cards of federal employees: over real pcscd, which carries what it is given."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.pcsc import piv_objects, piv_pin, piv_select, scard
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import ManagementAlgorithm
from protocol.errors import InlayError
from tests.cards.by_t0 import ATR, CardByT0
from tests.cards.profiles import P_256, PROFILES
from tests.cards.simulated import factory_key
from tests.support.card_jobs import BY_DRIVER, CardFacts, by_driver
from tests.support.pcscd import PrivatePcscd
from tests.support.physical_orders import personalised
from tests.support.processes import wait_until
from tests.support.virtual_cards import Issuer
from tests.support.wired_card import WiredCard

pytestmark = pytest.mark.interop


def test_every_job_by_t0(pcscd: PrivatePcscd) -> None:
    """The wrong PIN first; a certificate goes in pieces, is read in pieces, and no byte is left on the line."""
    profile = next(each for each in PROFILES if each.name == "everything of Yubico's, AES-192")
    simulated = personalised(profile)
    private = ec.generate_private_key(ec.SECP256R1())
    der = Issuer().issue(private.public_key(), 0x9A)
    simulated.keys[0x9A] = (P_256, private)
    simulated.objects[0x5FC105] = piv_objects.certificate_object(der)
    by_t0, reader = CardByT0(simulated), pcscd.readers[2]
    algorithm = profile.management[-1]
    facts = CardFacts(ManagementAlgorithm(algorithm), factory_key(algorithm), der)
    pin, puk = simulated.pin, simulated.puk
    with WiredCard(pcscd.vpcd_ports[2], by_t0.transmit, ATR):
        wait_until(
            lambda: any(each.name == reader and each.atr == ATR for each in scard.list_readers()), "a card"
        )
        with scard.Context() as context, CardConnection(context.connect(reader), reader) as card:
            with card.held():
                piv_select.select(card)
                with pytest.raises(InlayError) as caught:
                    piv_pin.verify(card, b"000000")
                assert (caught.value.code, caught.value.fields) == ("card_pin_wrong", {"tries": 2})
            for job in BY_DRIVER:
                by_driver(card, job, facts)
                simulated.pin, simulated.puk = pin, puk
            with card.held():
                piv_select.select(card)
                assert piv_objects.read_certificate(card, 0x9A) == der
    assert by_t0.wrong == []
    assert {0xC0, 0x87, 0x47, 0xDB, 0xCB} <= {command[1] for command in simulated.commands}

"""A card torn out before and after each command of an encoding, and put back: nothing lost, no try spent."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from agent.card_session import CardSession
from agent.pcsc import piv_cipher, piv_objects, piv_pin, piv_select
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_authenticate import Proof, Question
from agent.pcsc.piv_names import PIN as PIN_REFERENCE
from agent.piv_card import PivCard
from protocol.errors import InlayError
from protocol.messages import Algorithm
from tests.cards.profiles import PROFILES, Profile
from tests.cards.simulated import PIN, SimulatedCard, SimulatedLink, factory_key
from tests.support.virtual_cards import Issuer

NEW_PIN = b"246810"
ISSUER = Issuer()
SOME = [PROFILES[0], PROFILES[1], PROFILES[5]]


class Torn(SimulatedLink):
    """A connection on which the card is torn out once: before an APDU reaches it, or before its answer comes back."""

    def __init__(self, card: SimulatedCard, at: int, *, answered: bool) -> None:
        super().__init__(card)
        self.at, self.answered = at, answered

    def transmit(self, apdu: bytes) -> bytes:
        self.number += 1
        if self.number != self.at:
            return self.card.transmit(apdu)
        if self.answered:
            self.card.transmit(apdu)
        self.card.reset()
        raise InlayError("pcsc_card_removed")


async def holder(question: Question) -> Proof:
    return piv_cipher.answer(factory_key(question.algorithm), question)


async def encode(link: SimulatedLink) -> None:
    """An encoding that can be begun again from its beginning; the PIN is changed by itself, in the end."""
    async with CardSession(lambda: CardConnection(link, "Reader")) as session:
        await session.run(piv_select.select)
        algorithm = (await session.run(piv_select.management_algorithms))[0]
        await session.authenticate(algorithm, holder)
        before = await session.run(piv_objects.read_chuid)
        chuid = piv_objects.fresh_chuid(datetime.date(2030, 12, 31), before)
        await session.run(piv_objects.write_chuid, chuid)
        card = PivCard(session)
        await card.generate("9A", Algorithm.P_256)
        asked = await card.request("9A", "CN=Card", bytearray(PIN), signs=True)
        assert asked.csr is not None
        public = x509.load_der_x509_csr(asked.csr).public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        await card.write_certificate("9A", ISSUER.issue(public, 0x9A))
        await card.sign("9A", b"proof", bytearray(PIN))


async def change_pin(link: SimulatedLink) -> None:
    async with CardSession(lambda: CardConnection(link, "Reader")) as session:
        await session.run(piv_select.select)
        await session.run(piv_pin.change, PIN_REFERENCE, bytearray(PIN), bytearray(NEW_PIN))


async def positions(profile: Profile, job: Callable[[SimulatedLink], object]) -> int:
    link = SimulatedLink(SimulatedCard(profile))
    await job(link)  # type: ignore[misc]
    return link.number


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("profile", SOME, ids=lambda profile: profile.name)
async def test_an_encoding_torn_anywhere_is_told_and_goes_through_when_begun_again(
    profile: Profile, answered: bool
) -> None:
    count = await positions(profile, encode)
    assert count > 12
    for at in range(1, count + 1):
        card = SimulatedCard(profile)
        with pytest.raises(InlayError) as caught:
            await encode(Torn(card, at, answered=answered))
        assert caught.value.code == "pcsc_card_removed", at
        assert (card.pin_left, card.puk_left) == (profile.pin_tries, profile.puk_tries)
        assert not card.managed
        assert not card.pin_ok
        await encode(SimulatedLink(card))
        assert 0x5FC105 in card.objects
        assert card.pin_left == profile.pin_tries


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
async def test_a_torn_change_of_the_pin_leaves_the_old_or_the_new_and_all_tries(answered: bool) -> None:
    profile = PROFILES[0]
    count = await positions(profile, change_pin)
    for at in range(1, count + 1):
        card = SimulatedCard(profile)
        with pytest.raises(InlayError) as caught:
            await change_pin(Torn(card, at, answered=answered))
        assert caught.value.code == "pcsc_card_removed"
        assert card.pin.rstrip(b"\xff") in (PIN, NEW_PIN)
        assert card.pin_left == profile.pin_tries
        changed = answered and card.commands[-1][1] == 0x24
        assert (card.pin.rstrip(b"\xff") == NEW_PIN) == changed

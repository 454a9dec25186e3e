"""Cards without an application, and cards whose random generator is none: what is said, and what isn't relied on."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import serialization

from agent.card_session import CardSession
from agent.pcsc import look as looking
from agent.pcsc import piv_authenticate, piv_cipher, piv_keys, piv_objects, piv_pin, piv_select
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_authenticate import Proof, Question
from agent.pcsc.piv_names import PIN, KeyAlgorithm, ManagementAlgorithm
from protocol.errors import InlayError
from tests.cards.profiles import BARE, PROFILES, REPEATING
from tests.cards.simulated import SimulatedCard, SimulatedLink, factory_key

AIDS = frozenset({bytes.fromhex("A000000308"), bytes.fromhex("A000000397425446590201")})


def connected(card: SimulatedCard) -> CardConnection:
    return CardConnection(SimulatedLink(card), "Reader")


def test_a_card_without_an_application_is_told_from_one_that_nobody_knows() -> None:
    seen = looking.look(connected(SimulatedCard(BARE)), AIDS)
    assert (seen.bare, seen.capabilities, seen.guid) == (True, None, None)
    assert not looking.Evidence(seen.atr).bare
    for profile in PROFILES:
        assert not looking.look(connected(SimulatedCard(profile)), AIDS).bare


def test_nothing_but_select_goes_to_a_card_without_an_application() -> None:
    card = SimulatedCard(BARE)
    looking.look(connected(card), AIDS)
    assert {command[1] for command in card.commands} == {0xA4}
    with pytest.raises(InlayError) as caught:
        piv_select.select(connected(card))
    assert caught.value.code == "card_not_supported"


def test_a_card_that_takes_no_pin_through_the_air_has_not_found_one_wrong() -> None:
    simulated = SimulatedCard(dataclasses.replace(PROFILES[0], through_air=True))
    card = connected(simulated)
    piv_select.select(card)
    works: list[Callable[[], None]] = [
        lambda: piv_pin.verify(card, b"123456"),
        lambda: piv_pin.change(card, PIN, b"123456", b"654321"),
        lambda: piv_pin.unblock(card, b"12345678", b"654321"),
    ]
    for work in works:
        with pytest.raises(InlayError) as caught:
            work()
        assert caught.value.code == "card_contacts_needed"


@pytest.mark.parametrize("word", [0x6883, 0x6884, 0x6D00, 0x6E00])
def test_a_card_that_takes_no_chain_gets_extended_lengths(word: int) -> None:
    kind = next(profile for profile in PROFILES if profile.extended)
    simulated = SimulatedCard(dataclasses.replace(kind, no_chaining=word))
    card = connected(simulated)
    piv_select.select(card)
    simulated.managed = True
    piv_objects.write_certificate(card, 0x9A, bytes(700))
    assert piv_objects.read_certificate(card, 0x9A) == bytes(700)
    assert [command[0] for command in simulated.commands].count(0x10) == 1


async def test_a_recorded_proof_of_the_key_opens_no_second_authentication_that_is_mutual() -> None:
    """The card's own part repeats; what the key's holder adds doesn't: no answer of the card is of yesterday."""
    card = SimulatedCard(REPEATING)
    algorithm = ManagementAlgorithm(card.management)
    asked: list[Question] = []
    proofs: list[Proof] = []

    async def holder(question: Question) -> Proof:
        asked.append(question)
        proofs.append(piv_cipher.answer(factory_key(algorithm), question))
        return proofs[-1]

    for _ in range(2):
        async with CardSession(lambda: connected(card)) as session:
            await session.run(piv_select.select)
            await session.authenticate(algorithm, holder, mutual=True)
            assert card.managed
    assert asked[0] == asked[1]
    assert proofs[0].challenge != proofs[1].challenge
    assert proofs[0].expected_sha256 != proofs[1].expected_sha256


def test_a_card_that_repeats_an_old_answer_has_not_proved_itself() -> None:
    card = connected(SimulatedCard(REPEATING))
    algorithm = ManagementAlgorithm(SimulatedCard(REPEATING).management)
    key = factory_key(algorithm)
    piv_select.select(card)
    question = piv_authenticate.ask(card, algorithm, mutual=True)
    old, new = piv_cipher.answer(key, question), piv_cipher.answer(key, question)
    replayed = Proof(old.response, old.challenge, new.expected_sha256)
    with pytest.raises(InlayError) as caught:
        piv_authenticate.prove(card, question, replayed)
    assert caught.value.code == "card_management_wrong"


def test_the_cards_guid_is_not_of_its_making() -> None:
    valid = datetime.date(2030, 12, 31)
    found = set()
    for _ in range(2):
        card = connected(SimulatedCard(REPEATING))
        piv_select.select(card)
        found.add(piv_objects.fresh_chuid(valid, piv_objects.read_chuid(card)).guid)
    assert len(found) == 2


def test_two_such_cards_make_the_same_key_and_show_it() -> None:
    """So the portal has to see it: ``key_of_another``."""
    keys = set()
    for _ in range(2):
        simulated = SimulatedCard(REPEATING)
        card = connected(simulated)
        piv_select.select(card)
        simulated.managed = True
        public = piv_keys.generate(card, 0x9A, KeyAlgorithm.P_256)
        form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        keys.add(public.public_bytes(*form))
    assert len(keys) == 1

"""Encode, change, unblock on every kind of card: the wrong PIN, key and room first, then the way it should go."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from agent.pcsc import (
    piv_authenticate,
    piv_cipher,
    piv_keys,
    piv_objects,
    piv_pin,
    piv_select,
    piv_use,
)
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import (
    CHUID,
    KEY_HISTORY,
    PIN,
    PRINTED,
    PUK,
    SECURITY,
    KeyAlgorithm,
    ManagementAlgorithm,
)
from protocol.errors import InlayError
from tests.cards.profiles import ATTEST, IMPORT, MOVE, PROFILES, SERIAL, SET_KEY, VERSION, Profile
from tests.cards.simulated import PIN as FACTORY_PIN
from tests.cards.simulated import PUK as FACTORY_PUK
from tests.cards.simulated import SimulatedCard, SimulatedLink, factory_key

NEW_PIN, NEW_PUK, WRONG, EASY = b"246810", b"87654321", b"000000", b"111111"
EXPIRES = datetime.date(2030, 12, 31)


@pytest.fixture(params=PROFILES, ids=lambda profile: profile.name)
def profile(request: pytest.FixtureRequest) -> Profile:
    found: Profile = request.param
    return found


@pytest.fixture
def link(profile: Profile) -> SimulatedLink:
    return SimulatedLink(SimulatedCard(profile))


@pytest.fixture
def card(link: SimulatedLink) -> Iterator[CardConnection]:
    with CardConnection(link, "Reader") as connection:
        piv_select.select(connection)
        yield connection


def code_of(work: object, *arguments: object, **named: object) -> tuple[str, dict[str, str | int]]:
    with pytest.raises(InlayError) as caught:
        work(*arguments, **named)  # type: ignore[operator]
    return caught.value.code, caught.value.fields


def authenticate(card: CardConnection, *, mutual: bool = False) -> ManagementAlgorithm:
    algorithm = piv_select.management_algorithms(card)[0]
    question = piv_authenticate.ask(card, algorithm, mutual=mutual)
    piv_authenticate.prove(card, question, piv_cipher.answer(factory_key(algorithm), question))
    return algorithm


# --- what it can do ----------------------------------------------------------------------------


def test_what_it_can_do_is_found_out_and_nothing_changes(
    card: CardConnection, link: SimulatedLink, profile: Profile
) -> None:
    before = (dict(link.card.objects), dict(link.card.keys), link.card.pin_left, link.card.puk_left)
    found = piv_select.probe(card)
    has = profile.yubico
    assert found.metadata == profile.metadata
    assert found.attestation == (ATTEST in has)
    assert found.moving == (MOVE in has)
    assert found.importing == (IMPORT in has)
    assert found.new_management_key == (SET_KEY in has)
    assert found.serial == (0x01020304 if SERIAL in has else None)
    assert found.version == ("5.4.3" if VERSION in has else None)
    assert set(piv_select.management_algorithms(card)) == set(profile.management)
    assert (dict(link.card.objects), dict(link.card.keys), link.card.pin_left, link.card.puk_left) == before


def test_tries_are_asked_without_spending_one(
    card: CardConnection, link: SimulatedLink, profile: Profile
) -> None:
    for _ in range(10):
        assert piv_pin.tries_left(card, PIN) == profile.pin_tries
        expected = profile.puk_tries if profile.metadata else None
        assert piv_pin.tries_left(card, PUK) == expected
    assert link.card.pin_left == profile.pin_tries


# --- PIN and PUK -------------------------------------------------------------------------------


def test_wrong_pins_count_down_to_blocked(card: CardConnection, profile: Profile) -> None:
    for left in range(profile.pin_tries - 1, 0, -1):
        assert code_of(piv_pin.verify, card, WRONG) == ("card_pin_wrong", {"tries": left})
        assert piv_pin.tries_left(card) == left
    assert code_of(piv_pin.verify, card, WRONG)[0] == "card_pin_blocked"
    assert piv_pin.tries_left(card) == 0
    assert code_of(piv_pin.verify, card, FACTORY_PIN)[0] == "card_pin_blocked"
    assert code_of(piv_pin.change, card, PIN, FACTORY_PIN, NEW_PIN)[0] == "card_pin_blocked"


@pytest.mark.parametrize("pin", [b"", b"123456789"])
def test_a_pin_of_no_possible_length_never_leaves(
    card: CardConnection, link: SimulatedLink, pin: bytes
) -> None:
    assert code_of(piv_pin.verify, card, pin)[0] == "card_pin_form"
    assert code_of(piv_pin.change, card, PIN, FACTORY_PIN, pin)[0] == "card_pin_form"
    assert link.card.pin_left == link.card.profile.pin_tries


def test_a_new_pin_that_the_card_does_not_take_spends_nothing(
    card: CardConnection, link: SimulatedLink, profile: Profile
) -> None:
    assert code_of(piv_pin.change, card, PIN, FACTORY_PIN, b"1")[0] == "card_pin_form"
    assert link.card.pin_left == profile.pin_tries


def test_pin_and_puk_are_changed_by_the_old_ones_alone(
    card: CardConnection, link: SimulatedLink, profile: Profile
) -> None:
    left = {"tries": profile.pin_tries - 1}
    assert code_of(piv_pin.change, card, PIN, WRONG, NEW_PIN) == ("card_pin_wrong", left)
    assert code_of(piv_pin.change, card, PUK, WRONG, NEW_PUK) == ("card_puk_wrong", puk_left(profile, 1))
    piv_pin.change(card, PIN, bytearray(FACTORY_PIN), bytearray(NEW_PIN))
    piv_pin.change(card, PUK, FACTORY_PUK, NEW_PUK)
    piv_pin.verify(card, NEW_PIN)
    assert (link.card.pin_left, link.card.puk_left) == (profile.pin_tries, profile.puk_tries)


def test_a_blocked_pin_is_unblocked_by_the_puk_alone(card: CardConnection, profile: Profile) -> None:
    for _ in range(profile.pin_tries):
        code_of(piv_pin.verify, card, WRONG)
    assert code_of(piv_pin.unblock, card, WRONG, NEW_PIN) == ("card_puk_wrong", puk_left(profile, 1))
    piv_pin.unblock(card, FACTORY_PUK, NEW_PIN)
    piv_pin.verify(card, NEW_PIN)
    assert code_of(piv_pin.verify, card, FACTORY_PIN)[0] == "card_pin_wrong"


def puk_left(profile: Profile, wrong: int) -> dict[str, int]:
    """What is said of the PUK's tries after so many wrong ones: nothing where neither answer nor metadata tell."""
    return {} if profile.wrong_old and not profile.metadata else {"tries": profile.puk_tries - wrong}


def test_a_blocked_puk_is_said(card: CardConnection, profile: Profile) -> None:
    if puk_left(profile, 1) == {}:
        for _ in range(profile.puk_tries + 1):
            assert code_of(piv_pin.unblock, card, WRONG, NEW_PIN) == ("card_puk_wrong", {})
        return
    for _ in range(profile.puk_tries - 1):
        assert code_of(piv_pin.unblock, card, WRONG, NEW_PIN)[0] == "card_puk_wrong"
    assert code_of(piv_pin.unblock, card, WRONG, NEW_PIN)[0] == "card_puk_blocked"
    assert code_of(piv_pin.unblock, card, FACTORY_PUK, NEW_PIN)[0] == "card_puk_blocked"


def test_a_new_value_that_is_too_easy_is_told_where_the_card_sees_it(
    card: CardConnection, link: SimulatedLink, profile: Profile
) -> None:
    if not profile.weak_pin:
        piv_pin.change(card, PIN, FACTORY_PIN, EASY)
        return
    assert code_of(piv_pin.change, card, PIN, FACTORY_PIN, EASY)[0] == "card_pin_form"
    assert code_of(piv_pin.change, card, PUK, FACTORY_PUK, EASY + b"11")[0] == "card_pin_form"
    assert code_of(piv_pin.unblock, card, FACTORY_PUK, EASY)[0] == "card_pin_form"
    assert (link.card.pin_left, link.card.puk_left) == (profile.pin_tries, profile.puk_tries)


def test_logging_out_is_tried_and_its_absence_told(
    card: CardConnection, link: SimulatedLink, profile: Profile
) -> None:
    piv_pin.verify(card, FACTORY_PIN)
    assert piv_pin.log_out(card) == profile.log_out
    assert link.card.pin_ok != profile.log_out


# --- the management key ------------------------------------------------------------------------


@pytest.mark.parametrize("mutual", [False, True])
def test_a_wrong_management_key_is_told_and_nothing_changed(
    card: CardConnection, link: SimulatedLink, profile: Profile, mutual: bool
) -> None:
    if mutual and not profile.mutual:
        command = {"command": "GENERAL AUTHENTICATE"}
        algorithm = ManagementAlgorithm(profile.management[0])
        code, fields = code_of(piv_authenticate.ask, card, algorithm, mutual=True)
        assert (code, fields["command"]) == ("card_refused", command["command"])
        return
    algorithm = piv_select.management_algorithms(card)[0]
    question = piv_authenticate.ask(card, algorithm, mutual=mutual)
    wrong = piv_cipher.answer(bytes(range(64, 64 + algorithm.key_bytes)), question)
    unread = mutual and profile.wrong_management == 0x6A80  # it may be the template that it can't read
    expected = "card_refused" if unread else "card_management_wrong"
    assert code_of(piv_authenticate.prove, card, question, wrong)[0] == expected
    assert not link.card.managed
    assert code_of(piv_objects.write, card, CHUID, b"\x30\x00")[0] == "card_management_needed"
    assert code_of(piv_keys.generate, card, 0x9A, KeyAlgorithm.P_256)[0] == "card_management_needed"


def test_a_card_that_can_not_prove_itself_is_not_believed(card: CardConnection, profile: Profile) -> None:
    if not profile.mutual:
        assert profile.select == (5,)
        return
    algorithm = piv_select.management_algorithms(card)[0]
    question = piv_authenticate.ask(card, algorithm, mutual=True)
    proof = piv_cipher.answer(factory_key(algorithm), question)
    other = piv_authenticate.Proof(proof.response, proof.challenge, bytes(len(proof.expected_sha256)))
    assert code_of(piv_authenticate.prove, card, question, other)[0] == "card_management_wrong"


def test_an_algorithm_that_the_key_has_not_is_named(card: CardConnection, profile: Profile) -> None:
    for algorithm in ManagementAlgorithm:
        if algorithm not in profile.management:
            code, fields = code_of(piv_authenticate.ask, card, algorithm)
            if profile.any_algorithm:
                assert (code, fields) == ("card_answer_malformed", {"command": "GENERAL AUTHENTICATE"})
                continue
            assert code == "card_algorithm_missing"
            assert fields["algorithm"] == {0x03: "TDES"}.get(algorithm, algorithm.name.replace("_", "-"))


def test_a_new_management_key_replaces_the_old(
    card: CardConnection, link: SimulatedLink, profile: Profile
) -> None:
    algorithm = authenticate(card)
    key = bytes(range(32, 32 + algorithm.key_bytes))
    if SET_KEY not in profile.yubico:
        assert code_of(piv_authenticate.set_key, card, algorithm, key)[0] == "card_feature_missing"
        return
    piv_authenticate.set_key(card, algorithm, key)
    card.release()
    with card.held():
        piv_select.select(card)
        assert code_of(piv_authenticate.set_key, card, algorithm, key)[0] == "card_management_needed"
        question = piv_authenticate.ask(card, algorithm)
        piv_authenticate.prove(card, question, piv_cipher.answer(key, question))
    assert link.card.keys_by_algorithm == {algorithm: key}


# --- encode ------------------------------------------------------------------------------------


def certificate(size: int) -> bytes:
    """Something of a certificate's size that doesn't pack well."""
    seed = hashes.Hash(hashes.SHA512())
    whole = b""
    while len(whole) < size:
        seed.update(whole[-64:] or b"seed")
        whole += seed.copy().finalize()
    return whole[:size]


@pytest.mark.parametrize("mutual", [False, True])
def test_a_card_is_encoded_and_encoded_again(
    card: CardConnection, link: SimulatedLink, profile: Profile, mutual: bool
) -> None:
    for turn in range(2):
        with card.held():
            piv_select.select(card)
            before = piv_objects.read_chuid(card)
            assert (before is not None) == (profile.chuid or turn == 1)
            authenticate(card, mutual=mutual and profile.mutual)
            chuid = piv_objects.fresh_chuid(EXPIRES, before)
            piv_objects.write_chuid(card, chuid)
            piv_objects.write_ccc(card)
            public = piv_keys.generate(card, 0x9A, KeyAlgorithm.P_256)
            der = certificate(600 + 400 * turn)
            piv_objects.write_certificate(card, 0x9A, der)
            assert piv_objects.read_certificate(card, 0x9A) == der
            if profile.has_place(KEY_HISTORY):
                piv_objects.write_key_history(card, piv_objects.KeyHistory(0, 0))
                assert piv_objects.read_key_history(card) == piv_objects.KeyHistory(0, 0)
            piv_pin.verify(card, FACTORY_PIN)
            signature = piv_use.sign_sha256(card, 0x9A, KeyAlgorithm.P_256, b"message")
            assert isinstance(public, ec.EllipticCurvePublicKey)
            public.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))
            found = piv_objects.read_chuid(card)
            assert found == chuid
            assert before is None or found.guid != before.guid
        assert link.resets == turn + 1
        assert not link.card.managed


def test_rsa_and_agreement(card: CardConnection) -> None:
    authenticate(card)
    public = piv_keys.generate(card, 0x9C, KeyAlgorithm.RSA_2048)
    assert code_of(piv_use.sign_sha256, card, 0x9C, KeyAlgorithm.RSA_2048, b"m")[0] == "card_pin_needed"
    piv_pin.verify(card, FACTORY_PIN)
    signature = piv_use.sign_sha256(card, 0x9C, KeyAlgorithm.RSA_2048, b"m")
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(signature, b"m", padding.PKCS1v15(), hashes.SHA256())
    agreeing = piv_keys.generate(card, 0x9D, KeyAlgorithm.P_256)
    assert isinstance(agreeing, ec.EllipticCurvePublicKey)
    own = ec.generate_private_key(ec.SECP256R1())
    numbers = own.public_key().public_numbers()
    point = b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    piv_pin.verify(card, FACTORY_PIN)
    assert piv_use.agree(card, 0x9D, KeyAlgorithm.P_256, point) == own.exchange(ec.ECDH(), agreeing)
    assert code_of(piv_use.use, card, 0x9E, KeyAlgorithm.P_256, bytes(32))[0] == "card_key_missing"


def test_an_algorithm_that_the_card_has_not_is_named_and_the_old_key_stays(
    card: CardConnection, link: SimulatedLink
) -> None:
    authenticate(card)
    piv_keys.generate(card, 0x9A, KeyAlgorithm.P_256)
    before = link.card.keys[0x9A]
    assert code_of(piv_keys.generate, card, 0x9A, KeyAlgorithm.RSA_4096) == (
        "card_algorithm_missing",
        {"algorithm": "RSA-4096"},
    )
    assert link.card.keys[0x9A] == before


def test_slots_that_are_not_there_are_named(card: CardConnection, profile: Profile) -> None:
    authenticate(card)
    if profile.retired < 20:
        code, fields = code_of(piv_keys.generate, card, 0x95, KeyAlgorithm.P_256)
        unclear = profile.bad_slot == 0x6A80  # what most say of the algorithm
        assert code == ("card_algorithm_missing" if unclear else "card_slot_missing")
        assert fields == ({"algorithm": "P-256"} if unclear else {"slot": "95"})
        code, fields = code_of(piv_objects.write_certificate, card, 0x95, certificate(100))
        assert (code, fields) == ("card_slot_missing", {"slot": "95"})
    else:
        piv_keys.generate(card, 0x95, KeyAlgorithm.P_256)
        piv_objects.write_certificate(card, 0x95, certificate(100))
        assert piv_objects.read_certificate(card, 0x95) == certificate(100)


def test_a_certificate_that_does_not_fit_is_told_and_the_old_one_is_there_again(card: CardConnection) -> None:
    authenticate(card)
    old = certificate(300)
    piv_objects.write_certificate(card, 0x9A, old)
    code, fields = code_of(piv_objects.write_certificate, card, 0x9A, certificate(62_000))
    assert (code, fields) == ("card_object_too_large", {"size": 62_000})
    assert piv_objects.read_certificate(card, 0x9A) == old


def test_a_certificate_that_fits_only_packed_is_packed(card: CardConnection, link: SimulatedLink) -> None:
    authenticate(card)
    der = certificate(200) + bytes(61_000)
    code, _ = code_of(piv_objects.write, card, 0x5FC105, piv_objects.certificate_object(der))
    assert code == "card_full"
    small = certificate(200) + bytes(10_000)
    link.card.objects[0x5FC101] = bytes(link.card.profile.capacity - 2_000)
    piv_objects.write_certificate(card, 0x9A, small)
    assert piv_objects.read_certificate(card, 0x9A) == small


def test_objects_are_written_read_and_deleted(card: CardConnection, profile: Profile) -> None:
    assert piv_objects.read(card, SECURITY) is None
    authenticate(card)
    if not profile.has_place(SECURITY):
        assert code_of(piv_objects.write, card, SECURITY, b"\xba\x01\x00")[0] == "card_refused"
    object_ = SECURITY if profile.has_place(SECURITY) else 0x5FC10B
    piv_objects.delete(card, SECURITY)
    piv_objects.write(card, object_, b"\xba\x01\x00")
    assert piv_objects.read(card, object_) == b"\xba\x01\x00"
    piv_objects.delete(card, object_)
    assert piv_objects.read(card, object_) is None
    assert code_of(piv_objects.read, card, PRINTED) == ("card_pin_needed", {"command": "GET DATA"})


def test_the_discovery_object_is_read_where_there_is_one(card: CardConnection, profile: Profile) -> None:
    assert piv_objects.read_pin_usage(card) == (b"\x40\x00" if profile.discovery else None)


# --- beyond the standard -----------------------------------------------------------------------


def test_metadata_tells_of_keys_where_there_is_metadata(card: CardConnection, profile: Profile) -> None:
    assert piv_keys.metadata(card, 0x9A) is None
    authenticate(card)
    public = piv_keys.generate(card, 0x9A, KeyAlgorithm.P_256)
    found = piv_keys.metadata(card, 0x9A)
    if profile.metadata:
        assert found is not None
        assert (found.algorithm, found.generated, found.public) == (KeyAlgorithm.P_256, True, public)
    else:
        assert found is None


def test_keys_are_deleted_where_the_card_can(
    card: CardConnection, link: SimulatedLink, profile: Profile
) -> None:
    authenticate(card)
    if MOVE not in profile.yubico:
        assert code_of(piv_keys.delete, card, 0x9A) == ("card_feature_missing", {"command": "MOVE KEY"})
        return
    assert code_of(piv_keys.delete, card, 0x9A) == ("card_key_missing", {"slot": "9A"})
    piv_keys.generate(card, 0x9A, KeyAlgorithm.P_256)
    piv_keys.delete(card, 0x9A)
    assert link.card.keys == {}


def test_recovered_keys_are_imported_where_the_card_can(card: CardConnection, profile: Profile) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    authenticate(card)
    if IMPORT not in profile.yubico:
        assert code_of(piv_keys.import_key, card, 0x9D, private)[0] == "card_feature_missing"
        return
    piv_keys.import_key(card, 0x9D, private)
    piv_pin.verify(card, FACTORY_PIN)
    peer = ec.generate_private_key(ec.SECP256R1())
    numbers = peer.public_key().public_numbers()
    point = b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    agreed = piv_use.agree(card, 0x9D, KeyAlgorithm.P_256, point)
    assert agreed == peer.exchange(ec.ECDH(), private.public_key())

"""What orders do with a card, on every kind of card: keys, requests, certificates, proofs, as a portal judges them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from agent.card_session import CardSession
from agent.pcsc import piv_authenticate, piv_cipher, piv_objects, piv_select
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_authenticate import Proof, Question
from agent.piv_card import PivCard
from protocol.errors import DecodeError, InlayError
from protocol.messages import Algorithm, Challenge
from tests.cards.independent.in_reader import EVERY_KIND, card_of
from tests.cards.profiles import IMPORT, Profile
from tests.cards.simulated import PIN, SimulatedLink, factory_key
from tests.support.virtual_cards import Issuer

OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
WRONG, NEW = b"000000", b"135790"


@pytest.fixture(params=EVERY_KIND, ids=lambda profile: profile.name)
def profile(request: pytest.FixtureRequest) -> Profile:
    found: Profile = request.param
    return found


@pytest.fixture
def link(profile: Profile) -> SimulatedLink:
    return SimulatedLink(card_of(profile))


@pytest.fixture
async def session(link: SimulatedLink) -> AsyncIterator[CardSession]:
    async with CardSession(lambda: CardConnection(link, "Reader")) as opened:
        await opened.run(piv_select.select)
        yield opened


@pytest.fixture
def card(session: CardSession) -> PivCard:
    return PivCard(session)


def wants_both(card: CardConnection) -> bool:
    """Whether a card doesn't take a host's proof unless it proves itself, too."""
    algorithm = piv_select.management_algorithms(card)[0]
    try:
        piv_authenticate.ask(card, algorithm)
    except InlayError as error:
        return error.fields.get("status") == "6982"
    return False


async def authenticate(session: CardSession) -> None:
    async def holder(question: Question) -> Proof:
        return piv_cipher.answer(factory_key(question.algorithm), question)

    algorithm = (await session.run(piv_select.management_algorithms))[0]
    mutual = await session.run(wants_both)
    await session.authenticate(algorithm, holder, mutual=mutual)


async def test_without_the_portals_key_nothing_is_made(card: PivCard) -> None:
    with pytest.raises(InlayError) as caught:
        await card.generate("9A", Algorithm.P_256)
    assert caught.value.code == "card_management_needed"


async def test_a_wrong_pin_costs_one_try_however_often_it_is_used(
    card: PivCard, session: CardSession, link: SimulatedLink, profile: Profile
) -> None:
    await authenticate(session)
    await card.generate("9A", Algorithm.P_256)
    for _ in range(4):
        with pytest.raises(InlayError) as caught:
            await card.request("9A", "CN=A", bytearray(WRONG), signs=True)
        assert caught.value.code == "card_pin_wrong"
    assert link.card.pin_left == profile.pin_tries - 1
    assert (await card.request("9A", "CN=A", bytearray(PIN), signs=True)).csr is not None


async def test_the_signature_key_gets_the_pin_once_for_each_use(
    card: PivCard, session: CardSession, link: SimulatedLink
) -> None:
    """A right PIN is not sent again before the first use; it is before the next one, and to a card that forgot it."""
    await authenticate(session)
    await card.generate("9C", Algorithm.P_256)

    def verified() -> int:
        return sum(apdu[1] == 0x20 and len(apdu) > 5 for apdu in link.card.commands)

    pin = bytearray(PIN)
    await card.verify(pin)
    for expected in (1, 2):
        await card.sign("9C", b"m", pin)
        assert verified() == expected
    await card.verify(pin)
    link.card.pin_ok = False  # some do with any other command
    await card.sign("9C", b"m", pin)
    assert verified() == 4


async def test_a_slot_without_a_key_is_named(card: PivCard) -> None:
    with pytest.raises(InlayError) as caught:
        await card.sign("9A", b"m", bytearray(PIN))
    assert (caught.value.code, caught.value.fields) == ("card_key_missing", {"slot": "9A"})


async def test_a_certificate_of_another_key_is_not_written(card: PivCard, session: CardSession) -> None:
    await authenticate(session)
    await card.generate("9A", Algorithm.P_256)
    other = Issuer().issue(ec.generate_private_key(ec.SECP256R1()).public_key(), 0x9A)
    for der in (other, b"no certificate"):
        with pytest.raises(InlayError) as caught:
            await card.write_certificate("9A", der)
        assert caught.value.code == "card_check_failed"
    assert (await card.facts()).certificates == {}


def of_unknown_curve() -> bytes:
    """A certificate whose key is on a curve that nobody knows."""
    der = Issuer().issue(ec.generate_private_key(ec.SECP256R1()).public_key(), 0x9A)
    known = bytes.fromhex("06082A8648CE3D030107")
    head, tail = der.rsplit(known, 1)
    return head + known[:-1] + b"\x77" + tail


async def test_a_certificate_with_a_key_that_nobody_knows_is_none(
    card: PivCard, session: CardSession, link: SimulatedLink
) -> None:
    """One that the portal sends, and one that lies on the card already."""
    await authenticate(session)
    der = of_unknown_curve()
    link.card.objects[0x5FC10A] = piv_objects.certificate_object(der)
    with pytest.raises(InlayError) as caught:
        await card.sign("9C", b"m", bytearray(PIN))
    assert caught.value.code == "card_key_missing"
    await card.generate("9A", Algorithm.P_256)
    with pytest.raises(InlayError) as caught:
        await card.write_certificate("9A", der)
    assert caught.value.code == "card_check_failed"


async def test_another_card_is_refused(card: PivCard, session: CardSession, profile: Profile) -> None:
    with pytest.raises(InlayError) as caught:
        await card.require("00" * 16)
    assert caught.value.code == "card_other"
    chuid = await session.run(piv_objects.read_chuid)
    assert (chuid is not None) == profile.chuid
    if chuid is not None:
        await card.require(chuid.guid.hex())


async def test_a_subject_that_is_none_and_a_challenge_of_another_kind(
    card: PivCard, session: CardSession
) -> None:
    await authenticate(session)
    await card.generate("9D", Algorithm.P_256)
    with pytest.raises(DecodeError):
        await card.request("9D", "no subject", bytearray(PIN), signs=True)
    for challenge in (
        Challenge(),
        Challenge(b"1" * 256, b"2" * 65),
        Challenge(b"1" * 256),
        Challenge(None, b"\4" * 65),
    ):
        with pytest.raises(DecodeError):
            await card.answer("9D", challenge, bytearray(PIN))


async def test_keys_are_made_certified_and_proved(
    card: PivCard, session: CardSession, link: SimulatedLink, profile: Profile
) -> None:
    await authenticate(session)
    issuer, pin = Issuer(), bytearray(PIN)
    await card.generate("9A", Algorithm.P_256)
    await card.generate("9C", Algorithm.RSA_2048)
    await card.generate("9D", Algorithm.P_256)
    for slot in ("9A", "9C"):
        asked = await card.request(slot, f"CN=Card {slot}", pin, signs=True)
        assert asked.csr is not None
        request = x509.load_der_x509_csr(asked.csr)
        assert request.is_signature_valid
        assert request.subject.rfc4514_string() == f"CN=Card {slot}"
        public = request.public_key()
        assert isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
        await card.write_certificate(slot, issuer.issue(public, int(slot, 16)))
        for _ in range(2):  # 9C wants the PIN each time
            signature = await card.sign(slot, b"proof", pin)
            if isinstance(public, rsa.RSAPublicKey):
                public.verify(signature, b"proof", padding.PKCS1v15(), hashes.SHA256())
            else:
                public.verify(signature, b"proof", ec.ECDSA(hashes.SHA256()))
    asked = await card.request("9D", "CN=Card", pin, signs=False)
    assert asked.public_key is not None
    agreeing = serialization.load_der_public_key(asked.public_key)
    assert isinstance(agreeing, ec.EllipticCurvePublicKey)
    own = ec.generate_private_key(ec.SECP256R1())
    form = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    secret = await card.answer("9D", Challenge(None, own.public_key().public_bytes(*form)), pin)
    assert secret == own.exchange(ec.ECDH(), agreeing)
    facts = await card.facts()
    assert sorted(facts.certificates) == ["9A", "9C"]
    assert link.card.pin_left == profile.pin_tries


async def test_keys_that_stay_are_certified_anew(
    card: PivCard, session: CardSession, link: SimulatedLink
) -> None:
    await authenticate(session)
    pin, issuer = bytearray(PIN), Issuer()
    await card.generate("9A", Algorithm.P_256)
    first = await card.request("9A", "CN=Card", pin, signs=True)
    assert first.csr is not None
    public = x509.load_der_x509_csr(first.csr).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    await card.write_certificate("9A", issuer.issue(public, 0x9A))
    kept = link.card.keys[0x9A]
    again = PivCard(session)  # another order: it knows of the card what the card tells
    second = await again.request("9A", "CN=Card", pin, signs=True)
    assert second.csr is not None
    assert x509.load_der_x509_csr(second.csr).public_key() == public
    await again.write_certificate("9A", issuer.issue(public, 0x9A))
    assert link.card.keys[0x9A] == kept


async def test_a_message_decrypted_by_rsa(card: PivCard, session: CardSession) -> None:
    await authenticate(session)
    await card.generate("9D", Algorithm.RSA_2048)
    asked = await card.request("9D", "CN=Card", bytearray(PIN), signs=False)
    assert asked.public_key is not None
    public = serialization.load_der_public_key(asked.public_key)
    assert isinstance(public, rsa.RSAPublicKey)
    ciphertext = public.encrypt(b"thirty-two random bytes, exactly", OAEP)
    assert (
        await card.answer("9D", Challenge(ciphertext), bytearray(PIN)) == b"thirty-two random bytes, exactly"
    )
    with pytest.raises(InlayError) as caught:
        await card.answer("9D", Challenge(b"\0" * 255 + b"\2"), bytearray(PIN))
    assert caught.value.code == "card_answer_malformed"


async def test_a_recovered_key_is_imported_where_the_card_takes_it(
    card: PivCard, session: CardSession, profile: Profile
) -> None:
    await authenticate(session)
    private = ec.generate_private_key(ec.SECP256R1())
    pkcs8 = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(InlayError) as caught:
        await card.import_key("9D", bytearray(b"no key"))
    assert caught.value.code == "recovered_key_invalid"
    if IMPORT not in profile.yubico:
        with pytest.raises(InlayError) as caught:
            await card.import_key("9D", bytearray(pkcs8))
        assert caught.value.code == "card_feature_missing"
        return
    await card.import_key("9D", bytearray(pkcs8))
    await card.write_certificate("9D", Issuer().issue(private.public_key(), 0x9D))


async def test_a_new_pin_by_the_puk(
    card: PivCard, session: CardSession, link: SimulatedLink, profile: Profile
) -> None:
    await authenticate(session)
    await card.generate("9A", Algorithm.P_256)
    for _ in range(2):
        with pytest.raises(InlayError) as caught:
            await card.set_pin(bytearray(b"99999999"), bytearray(NEW))
        assert caught.value.code == "card_puk_wrong"
    assert link.card.puk_left == profile.puk_tries - 2
    await card.set_pin(bytearray(b"12345678"), bytearray(NEW))
    await card.sign("9A", b"m", bytearray(NEW))

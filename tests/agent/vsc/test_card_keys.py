"""The key hierarchy: what opens a card, what doesn't, and what survives."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from argon2.low_level import hash_secret_raw
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from agent.keys_system import DeviceSecret, Level
from agent.vsc import personalise
from agent.vsc.card import VirtualCard, pad
from agent.vsc.commands import Algorithm, PinPolicy, Reference
from agent.vsc.keys_software import SoftwareKeys
from agent.vsc.personalise import CardRefused
from agent.vsc.rsa_private import RsaPrivateKey
from agent.vsc.sealing import unseal
from agent.vsc.state import Argon2Cost, PersistentState
from agent.vsc.store import CardNotSaved, CardOfOtherDevice, CardStore
from protocol.errors import InlayError
from tests.support.virtual_cards import PIN, PUK, empty_card, store_in, verify

SELECT = bytes.fromhex("00A4040005A000000308")
NEW_PIN = b"Xy7!z-99"


@pytest.fixture
def cards(tmp_path: Path) -> CardStore:
    """An empty store."""
    return store_in(tmp_path)


def _send(card: VirtualCard, text: str) -> str:
    card.transmit(SELECT)
    return card.transmit(bytes.fromhex(text)).hex().upper()


def _block(value: bytes) -> str:
    return value.ljust(8, b"\xff").hex()


def _signs(card: VirtualCard, pin: bytes, slot: int = 0x9A) -> bool:
    public = personalise.public_key(card, slot)
    signature = personalise.sign(card, slot, b"message", bytearray(pin))
    verify(public, signature, b"message")
    return True


def test_wrong_pin_signs_nothing(cards: CardStore) -> None:
    """A wrong PIN costs a try, says how many are left, and gives no signature."""
    card = empty_card(cards)
    personalise.generate(card, 0x9A, Algorithm.P_256)
    for left in (2, 1, 0, 0):
        with pytest.raises(CardRefused) as refused:
            personalise.sign(card, 0x9A, b"message", bytearray(b"000000"))
        assert refused.value.tries_left == left


def test_folder_alone_opens_nothing(cards: CardStore) -> None:
    """Files without the device secret: not readable, and what is sealed in them neither."""
    card = empty_card(cards)
    personalise.generate(card, 0x9A, Algorithm.P_256)
    stranger = DeviceSecret(os.urandom(32), Level.FILE)
    with pytest.raises(CardOfOtherDevice):
        CardStore(cards._folder, stranger).load(card.card_id)
    state = cards.load(card.card_id)
    assert SoftwareKeys(stranger).open_by(state, Reference.PIN, pad(PIN), None) is None
    assert SoftwareKeys(cards.secret).open_by(state, Reference.PIN, pad(PIN), None) is not None
    raw = (cards._folder / f"{card.card_id}.card").read_bytes()
    assert (
        personalise.public_key(card, 0x9A).public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )[-32:]
        not in raw
    )


def test_device_secret_alone_opens_no_slot(cards: CardStore) -> None:
    """Files and device secret without the PIN: the card's key stays closed."""
    card = empty_card(cards)
    personalise.generate(card, 0x9A, Algorithm.P_256)
    state, keys = cards.load(card.card_id), SoftwareKeys(cards.secret)
    assert keys.open_by(state, Reference.PIN, pad(b"000000"), None) is None
    assert keys.open_by(state, Reference.PUK, pad(PIN), None) is None
    assert _send(card, "0087119A087C0682008102AABB") == "6982"


@pytest.mark.parametrize("algorithm", [each for each in Algorithm if each is not Algorithm.X25519])
def test_keys_survive_change_block_and_unblock(cards: CardStore, algorithm: Algorithm) -> None:
    """The same key signs after a changed PIN, a blocked one, one reset by PUK, and from the file again."""
    card = empty_card(cards)
    personalise.generate(card, 0x9A, algorithm)
    assert _signs(card, PIN)
    assert _send(card, f"0024008010{_block(PIN)}{_block(NEW_PIN)}") == "9000"
    assert _signs(card, NEW_PIN)
    for left in "210":
        assert _send(card, f"0020008008{_block(PIN)}") == f"63C{left}"
    assert _send(card, f"0020008008{_block(NEW_PIN)}") == "6983"
    assert _send(card, f"002C008010{_block(PUK)}{_block(PIN)}") == "9000"
    assert _signs(card, PIN)
    assert _signs(VirtualCard.load(cards, card.card_id), PIN)


class Unwilling(CardStore):
    """A store whose disk refuses when it is told to."""

    refuses = False

    def save(self, state: PersistentState) -> None:
        """Save, or refuse as a full disk would."""
        if self.refuses:
            raise CardNotSaved(state.card_id, OSError(28, "full"))
        super().save(state)


def test_no_comparison_before_the_try_is_saved(cards: CardStore) -> None:
    """When the spent try can't be saved, even the right PIN isn't compared, and nobody is logged in."""
    unwilling = Unwilling(cards._folder, cards.secret)
    card = empty_card(unwilling)
    unwilling.refuses = True
    assert _send(card, f"0020008008{_block(PIN)}") == "6581"
    assert _send(card, "00200080") == "63C3"


def test_killed_between_try_and_comparison(cards: CardStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Power cut at the comparison: the try is gone, whatever the PIN was."""
    card = empty_card(cards)

    def cut(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SoftwareKeys, "open_by", cut)
    with pytest.raises(KeyboardInterrupt):
        _send(card, f"0020008008{_block(PIN)}")
    assert cards.load(card.card_id).pin.tries == 2


def test_second_verify_is_quick_until_power_goes(cards: CardStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """One Argon2id for each power-up; right and wrong repeats cost none; a reset asks for it again."""
    card = empty_card(cards)
    paid: list[object] = []

    def counted(*arguments: object) -> bytes:
        paid.append(arguments[1])
        return hash_secret_raw(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("agent.vsc.keys_software.hash_secret_raw", counted)
    for pin, status in ((PIN, "9000"), (b"000000", "63C2"), (PIN, "9000")):
        assert _send(card, f"0020008008{_block(pin)}") == status
    assert len(paid) == 1
    card.reset()
    assert _send(card, f"0020008008{_block(PIN)}") == "9000"
    assert len(paid) == 2


def test_signature_key_wants_the_pin_each_time(cards: CardStore) -> None:
    """9C: one signature for each VERIFY; 9A: as many as one likes."""
    card = empty_card(cards)
    for slot in (0x9A, 0x9C):
        personalise.generate(card, slot, Algorithm.P_256)
    assert _send(card, f"0020008008{_block(PIN)}") == "9000"
    assert _send(card, "0087119C087C0682008102AABB00").endswith("9000")
    assert _send(card, "0087119C087C0682008102AABB00") == "6982"
    assert _send(card, "0087119A087C0682008102AABB00").endswith("9000")
    assert _send(card, "0087119A087C0682008102AABB00").endswith("9000")


def test_card_authentication_key_needs_no_pin(cards: CardStore) -> None:
    """9E works for whoever has power, sealed under the device secret alone."""
    card = empty_card(cards)
    personalise.generate(card, 0x9E, Algorithm.RSA_2048)
    assert cards.load(card.card_id).slots[0x9E].pin_policy is PinPolicy.NEVER
    block = bytes(254) + b"\x02\x03"
    card.transmit(SELECT)
    template = bytes.fromhex("7C820106820081820100") + block
    answer = card.transmit(bytes.fromhex("0087079E00010A") + template + b"\x00\x00")
    public = personalise.public_key(card, 0x9E)
    assert isinstance(public, rsa.RSAPublicKey)
    numbers = public.public_numbers()
    assert pow(int.from_bytes(answer[-258:-2], "big"), numbers.e, numbers.n) == 0x0203


@pytest.mark.parametrize(("slot", "data"), [(0x9A, "85"), (0x9D, "81")])
def test_ec_keys_do_what_their_slot_is_for(cards: CardStore, slot: int, data: str) -> None:
    """9A doesn't agree, 9D doesn't sign."""
    card = empty_card(cards)
    personalise.generate(card, slot, Algorithm.P_256)
    _send(card, f"0020008008{_block(PIN)}")
    assert _send(card, f"008711{slot:02X}087C068200{data}02AABB00") == "6A80"


def test_default_management_key_is_not_this_cards(cards: CardStore) -> None:
    """The key that every card maker prints in the manual opens nothing; nor is it the same on two cards."""
    card = empty_card(cards)
    challenge = bytes.fromhex(_send(card, "00870A9B047C02810000"))[4:20]
    default = _block_cipher(bytes.fromhex("0102030405060708" * 3)).encryptor()
    answer = default.update(challenge)
    assert card.transmit(bytes.fromhex("00870A9B147C128210") + answer) == b"\x69\x82"
    assert card.transmit(bytes.fromhex("0047009A05AC03800111")) == b"\x69\x82"
    other = empty_card(cards)
    assert other.answer_management_challenge(bytes(16)) != card.answer_management_challenge(bytes(16))


def test_mutual_authentication(cards: CardStore) -> None:
    """The host proves the key by the witness, the card by the challenge."""
    card = empty_card(cards)
    encrypted = bytes.fromhex(_send(card, "00870A9B047C02800000"))[4:20]
    state = cards.load(card.card_id)
    about = f"inlay card {card.card_id} management".encode()
    key = unseal(cards.secret.derive(f"card {card.card_id}"), state.management.sealed, about)
    witness = _block_cipher(key).decryptor().update(encrypted)
    answer = card.transmit(bytes.fromhex("00870A9B267C248010") + witness + b"\x81\x10" + bytes(16) + b"\x00")
    assert answer == b"\x7c\x12\x82\x10" + card.answer_management_challenge(bytes(16)) + b"\x90\x00"


def test_imported_keys_work(cards: CardStore) -> None:
    """RSA decrypts OAEP, EC agrees; a key of another size is refused by name."""
    card = empty_card(cards)
    ours, theirs = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    archive = rsa.generate_private_key(65537, 2048)
    personalise.import_key(card, 0x9D, _pkcs8(archive))
    personalise.import_key(card, 0x82, _pkcs8(ours))
    scheme = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    secret = archive.public_key().encrypt(b"challenge", scheme)
    assert personalise.decrypt_oaep(card, 0x9D, secret, bytearray(PIN)) == b"challenge"
    point = theirs.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    assert personalise.agree(card, 0x82, point, bytearray(PIN)) == theirs.exchange(
        ec.ECDH(), ours.public_key()
    )
    with pytest.raises(InlayError) as refused:
        personalise.decrypt_oaep(card, 0x9D, bytes(255) + b"\x02", bytearray(PIN))
    assert refused.value.code == "card_check_failed"
    with pytest.raises(InlayError) as refused:
        personalise.import_key(card, 0x9D, _pkcs8(ec.generate_private_key(ec.SECP521R1())))
    assert refused.value.code == "recovered_key_invalid"
    with pytest.raises(InlayError) as refused:
        personalise.import_key(card, 0x9D, b"no key")
    assert refused.value.code == "recovered_key_invalid"


def test_raw_rsa_is_rsa() -> None:
    """The OpenSSL call is x^d mod n, and refuses what is too large or of another length."""
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.private_numbers()
    modulus = numbers.public_numbers.n
    loaded = RsaPrivateKey(_pkcs8(key), modulus)
    for number in (0, 1, 2, modulus - 1, int.from_bytes(os.urandom(255), "big")):
        result = loaded.private_operation(number.to_bytes(256, "big"))
        assert int.from_bytes(result, "big") == pow(number, numbers.d, modulus)
    for wrong in (b"", bytes(255), bytes(257), modulus.to_bytes(256, "big"), b"\xff" * 256):
        with pytest.raises(ValueError, match="block"):
            loaded.private_operation(wrong)
    with pytest.raises(ValueError, match="private key"):
        RsaPrivateKey(b"0\x00", modulus)


def test_cost_is_kept_in_the_file(cards: CardStore) -> None:
    """A card opens with the cost it was made with, whatever the default is by then."""
    card = personalise.create(
        cards, label="x", pin=bytearray(PIN), puk=bytearray(PUK), cost=Argon2Cost(2, 128, 1)
    )
    assert cards.load(card.card_id).cost == Argon2Cost(2, 128, 1)
    assert _send(VirtualCard.load(cards, card.card_id), f"0020008008{_block(PIN)}") == "9000"


def test_nothing_secret_is_printed(cards: CardStore) -> None:
    """`repr` of states and secrets names them and no more."""
    state = cards.load(empty_card(cards).card_id)
    for thing in (state, state.pin, state.management, cards.secret):
        assert len(repr(thing)) < 40
    assert msgspec.structs.asdict(state)["card_id"] not in repr(state)


def _pkcs8(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _block_cipher(key: bytes) -> Cipher[modes.ECB]:
    return Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - one block, as the standard has it

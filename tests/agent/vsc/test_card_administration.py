"""Tries, reset, management keys, moved keys, and the file of the version before."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from agent.keys_system import DeviceSecret, Level
from agent.vsc import objects, personalise, tlv
from agent.vsc.card import VirtualCard
from agent.vsc.commands import ATTESTATION, SLOTS, Algorithm, ManagementAlgorithm
from agent.vsc.personalise import CardRefused
from agent.vsc.store import CardStore
from tests.support.virtual_cards import PIN, Issuer, empty_card, prove_management, store_in, verify

SELECT = bytes.fromhex("00A4040005A000000308")
DEFAULT_PIN, DEFAULT_PUK = b"123456", b"12345678"
_FILES = Path(__file__).parents[2] / "vectors" / "card-file"


@pytest.fixture
def cards(tmp_path: Path) -> CardStore:
    """An empty store."""
    return store_in(tmp_path)


def _send(card: VirtualCard, text: str) -> str:
    return card.transmit(bytes.fromhex(text)).hex().upper()


def _verify(card: VirtualCard, pin: bytes = PIN) -> str:
    return _send(card, "0020008008" + pin.ljust(8, b"\xff").hex())


def _block(card: VirtualCard) -> None:
    for command in ("0020008008" + "FF" * 8, "002C008010" + "FF" * 16):
        while _send(card, command) != "6983":
            pass


def _encrypted(algorithm: ManagementAlgorithm, key: bytes, block: bytes, *, back: bool = False) -> bytes:
    cipher = TripleDES(key) if algorithm is ManagementAlgorithm.TDES else algorithms.AES(key)
    context = Cipher(cipher, modes.ECB())  # noqa: S305 - one block, as the standard has it
    return (context.decryptor() if back else context.encryptor()).update(block)


def test_reset_needs_both_blocked_and_takes_everything(cards: CardStore) -> None:
    """No key, certificate or way in of before is left; what a second card would share is new."""
    card = empty_card(cards)
    personalise.generate(card, 0x9A, Algorithm.P_256)
    before = cards.load(card.card_id)
    assert _send(card, "00FB0000") == "6985"
    _block(card)
    assert _send(card, "00FB0000") == "9000"
    after = cards.load(card.card_id)
    assert not after.slots.keys() & SLOTS
    assert after.slots[ATTESTATION] == before.slots[ATTESTATION]
    assert after.guid != before.guid
    assert objects.chuid_guid(after.objects[objects.CHUID]) == after.guid == card.guid
    assert objects.chuid_expiry(after.objects[objects.CHUID]) == objects.chuid_expiry(
        before.objects[objects.CHUID]
    )
    assert after.public != before.public
    assert after.serial == before.serial
    assert _verify(card, DEFAULT_PIN) == "9000"


def test_management_key_after_reset_is_the_well_known_one(cards: CardStore) -> None:
    """Yubico's tools count on it; the metadata say that it is."""
    card = empty_card(cards)
    card.transmit(SELECT)
    _block(card)
    assert _send(card, "00FB0000") == "9000"
    challenge = bytes.fromhex(_send(card, "00870A9B047C02810000"))[4:20]
    key = bytes.fromhex("0102030405060708" * 3)
    proof = _encrypted(ManagementAlgorithm.AES_192, key, challenge)
    assert _send(card, "00870A9B147C128210" + proof.hex()) == "9000"
    personalise.generate(card, 0x9A, Algorithm.P_256)
    assert personalise.sign(card, 0x9A, b"message", bytearray(DEFAULT_PIN))


@pytest.mark.parametrize("algorithm", list(ManagementAlgorithm))
def test_management_key_of_each_kind(cards: CardStore, algorithm: ManagementAlgorithm) -> None:
    """Set, lost with power, then proved both ways; the one before and a wrong one prove nothing."""
    card = empty_card(cards)
    card.transmit(SELECT)
    prove_management(card)
    key = bytes(range(1, 2 * algorithm.key_bytes, 2))
    old = card.answer_management_challenge(bytes(16))
    assert _send(card, f"00FFFFFF{2 + 1 + len(key):02X}{algorithm:02X}9B{len(key):02X}{key.hex()}") == "9000"
    assert card.answer_management_challenge(bytes(algorithm.block_bytes)) != old
    card = VirtualCard.load(cards, card.card_id)
    card.transmit(SELECT)
    size = algorithm.block_bytes
    head = f"0087{algorithm:02X}9B"
    for good in (False, True):
        challenge = bytes.fromhex(_send(card, head + "047C02810000"))[4:-2]
        assert len(challenge) == size
        proof = _encrypted(algorithm, key, challenge) if good else bytes(size)
        answer = _send(card, f"{head}{size + 4:02X}7C{size + 2:02X}82{size:02X}{proof.hex()}")
        assert answer == ("9000" if good else "6982")
    card.reset()
    card.transmit(SELECT)
    for good in (False, True):
        encrypted = bytes.fromhex(_send(card, head + "047C02800000"))[4:-2]
        witness = _encrypted(algorithm, key, encrypted, back=True) if good else bytes(size)
        fields = f"80{size:02X}{witness.hex()}81{size:02X}{'00' * size}"
        data = f"7C{len(fields) // 2:02X}{fields}"
        answer = _send(card, f"{head}{len(data) // 2:02X}{data}00")
        ours = _encrypted(algorithm, key, bytes(size)).hex().upper()
        assert answer == (f"7C{size + 2:02X}82{size:02X}{ours}9000" if good else "6982")
    assert _send(card, "0047009A05AC038001E000").endswith("9000")


def test_tries_are_kept_through_new_values(cards: CardStore) -> None:
    """The number that was set holds for the next PIN too, and the keys are still there."""
    card = empty_card(cards)
    public = personalise.generate(card, 0x9A, Algorithm.ED25519)
    card.transmit(SELECT)
    prove_management(card)
    _verify(card)
    assert _send(card, "00FA0805") == "9000"
    assert card.details().pin_tries == 8
    new = b"654321"
    change = "0024008010" + (DEFAULT_PIN.ljust(8, b"\xff") + new.ljust(8, b"\xff")).hex()
    assert _send(card, change) == "9000"
    assert _verify(card, DEFAULT_PIN) == "63C7"
    assert _verify(card, new) == "9000"
    assert card.details().pin_tries == 8
    verify(public, personalise.sign(card, 0x9A, b"m", bytearray(new)), b"m")


@pytest.mark.parametrize("algorithm", [each for each in Algorithm if each is not Algorithm.X25519])
def test_moved_key_signs_without_a_pin_for_the_move(cards: CardStore, algorithm: Algorithm) -> None:
    """Moving asks for the management key alone; what is sealed needn't be opened, from the file again too."""
    card = empty_card(cards)
    public = personalise.generate(card, 0x9A, algorithm)
    card.transmit(SELECT)
    prove_management(card)
    assert _send(card, "00F69C9A") == "9000"
    card = VirtualCard.load(cards, card.card_id)
    verify(public, personalise.sign(card, 0x9C, b"m", bytearray(PIN)), b"m")
    with pytest.raises(ValueError, match="no key"):
        personalise.public_key(card, 0x9A)


def test_key_that_asks_for_no_pin_moves_too(cards: CardStore) -> None:
    """A 9E key keeps its policy, sealed under the device secret as it was."""
    card = empty_card(cards)
    public = personalise.generate(card, 0x9E, Algorithm.P_256)
    card.transmit(SELECT)
    prove_management(card)
    assert _send(card, "00F69A9E") == "9000"
    digest = hashlib.sha256(b"m").digest()
    answer = bytes.fromhex(_send(card, f"0087119A267C2482008120{digest.hex()}00"))
    assert answer[-2:] == b"\x90\x00"
    verify(public, tlv.parse_one(tlv.parse_one(answer[:-2], 0x7C), 0x82), b"m")


def test_every_algorithm_has_a_certificate_and_requests_one(cards: CardStore) -> None:
    """All of them at once on one card, with certificates of up to what an object may hold."""
    card, issuer = empty_card(cards), Issuer()
    for slot, algorithm in zip((0x9A, 0x9C, 0x9D, 0x9E, 0x82, 0x83, 0x84), Algorithm, strict=True):
        public = personalise.generate(card, slot, algorithm)
        der = issuer.issue(public, slot)
        personalise.write_certificate(card, slot, der)
        assert personalise.read_certificate(card, slot) == der
    labels = {slot.algorithm for slot in card.details().slots}
    assert labels == {"RSA-2048", "RSA-3072", "RSA-4096", "P-256", "P-384", "Ed25519", "X25519"}
    personalise.write_certificate(card, 0x95, bytes(12_000))
    with pytest.raises(CardRefused):
        personalise.write_certificate(card, 0x95, bytes(12_289))


def test_file_of_the_version_before(tmp_path: Path) -> None:
    """A card from before this version: its keys work, it gets an attestation key, and is saved as the new."""
    vector = json.loads((_FILES / "version-1.json").read_text())
    store = CardStore(tmp_path / "cards", DeviceSecret(bytes(range(32)), Level.FILE))
    path = tmp_path / "cards" / f"{vector['card']}.card"
    path.write_bytes(bytes.fromhex(vector["file"]))
    assert not store.load(vector["card"]).attested
    card = VirtualCard.load(store, vector["card"])
    assert {f"{slot.slot:02X}": slot.public.hex() for slot in card.details().slots} == vector["public"]
    for slot in (0x9A, 0x9E):
        public = personalise.public_key(card, slot)
        verify(public, personalise.sign(card, slot, b"m", bytearray(PIN)), b"m")
    card.transmit(SELECT)
    assert card.transmit(bytes.fromhex("00F99A00000000"))[-2:] == b"\x90\x00"
    assert path.read_bytes()[8:10] == b"\x00\x02"
    first = store.load(vector["card"]).slots[ATTESTATION]
    assert VirtualCard.load(store, vector["card"])._state.slots[ATTESTATION] == first

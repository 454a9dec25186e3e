"""A card is worked on as a copy: whatever happens, there is the old card or the new one, and no try comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.durable import write_durably
from agent.vsc import personalise
from agent.vsc import store as store_module
from agent.vsc.card import pad
from agent.vsc.commands import Algorithm, ChangeReference, Reference
from agent.vsc.personalise import CardRefused
from agent.vsc.store import CardDamaged, CardNotSaved, CardUnknown
from tests.support.virtual_cards import EC_KEYS, PIN, Issuer, full_card, store_in

if TYPE_CHECKING:
    from pathlib import Path

    from agent.vsc.card import VirtualCard

NEW_PIN = b"654321"


@pytest.fixture
def card(tmp_path: Path) -> VirtualCard:
    """An active card with keys in 9A, 9C and 9D."""
    return full_card(store_in(tmp_path), EC_KEYS)


def renewed(card: VirtualCard, folder: Path) -> bytes:
    """Make a new key and certificate in 9A of the card's copy; the certificate."""
    copy = card.copy_to(folder)
    public = personalise.generate(copy, 0x9A, Algorithm.P_256)
    der = Issuer().issue(public, 0x9A)
    personalise.write_certificate(copy, 0x9A, der)
    return der


def certificate(card: VirtualCard, slot: int) -> bytes | None:
    """A slot's certificate."""
    return next(item.certificate for item in card.details().slots if item.slot == slot)


def test_a_copy_that_is_not_there_leaves_the_card(card: VirtualCard, tmp_path: Path) -> None:
    before = card.details()
    with pytest.raises(CardUnknown):
        card.adopt(tmp_path / "copies")
    assert card.details() == before


def test_a_damaged_copy_leaves_the_card(card: VirtualCard, tmp_path: Path) -> None:
    renewed(card, tmp_path / "copies")
    before = card.details()
    (file,) = (tmp_path / "copies").glob("*.card")
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(CardDamaged):
        card.adopt(tmp_path / "copies")
    assert card.details() == before


def test_a_disk_that_refuses_leaves_the_card(
    card: VirtualCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed(card, tmp_path / "copies")
    before = card.details()

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(store_module, "write_durably", full)
    with pytest.raises(CardNotSaved):
        card.adopt(tmp_path / "copies")
    monkeypatch.setattr(store_module, "write_durably", write_durably)
    assert card.details() == before
    assert store_in(tmp_path).load(card.card_id).generation == before.generation
    card.adopt(tmp_path / "copies")


def test_work_on_the_copy_does_not_touch_the_card(card: VirtualCard, tmp_path: Path) -> None:
    before = card.details()
    renewed(card, tmp_path / "copies")
    assert card.details() == before
    assert personalise.sign(card, 0x9A, b"old key", bytearray(PIN))


def test_a_copy_made_again_begins_anew(card: VirtualCard, tmp_path: Path) -> None:
    renewed(card, tmp_path / "copies")
    card.copy_to(tmp_path / "copies")
    before = certificate(card, 0x9A)
    card.adopt(tmp_path / "copies")
    assert certificate(card, 0x9A) == before


def test_a_try_spent_meanwhile_stays_spent(card: VirtualCard, tmp_path: Path) -> None:
    renewed(card, tmp_path / "copies")
    with pytest.raises(CardRefused):
        personalise.sign(card, 0x9A, b"x", bytearray(b"111111"))
    card.adopt(tmp_path / "copies")
    assert card.details().pin_tries == 2


def test_a_pin_changed_meanwhile_opens_the_new_keys(card: VirtualCard, tmp_path: Path) -> None:
    renewed(card, tmp_path / "copies")
    assert card.carry_out(ChangeReference(Reference.PIN, pad(PIN), pad(NEW_PIN))) == 0x9000
    card.adopt(tmp_path / "copies")
    assert personalise.sign(card, 0x9A, b"new key", bytearray(NEW_PIN))
    with pytest.raises(CardRefused):
        personalise.sign(card, 0x9A, b"new key", bytearray(PIN))


def test_taken_on_again_after_a_kill_a_pin_that_was_changed_since_stays(
    card: VirtualCard, tmp_path: Path
) -> None:
    renewed(card, tmp_path / "copies")
    card.adopt(tmp_path / "copies", new_pin=True)
    assert card.carry_out(ChangeReference(Reference.PIN, pad(PIN), pad(NEW_PIN))) == 0x9000
    card.adopt(tmp_path / "copies", new_pin=True)
    assert personalise.sign(card, 0x9A, b"new key", bytearray(NEW_PIN))


def test_a_card_that_was_reset_meanwhile_takes_nothing_on(card: VirtualCard, tmp_path: Path) -> None:
    renewed(card, tmp_path / "copies")
    card.transmit(bytes.fromhex("00A4040005A000000308"))
    for wrong in (bytes.fromhex("0020008008") + b"9" * 8, bytes.fromhex("002C008010") + b"9" * 8 + pad(PIN)):
        for _ in range(3):
            card.transmit(wrong)
    assert card.transmit(bytes.fromhex("00FB0000"))[-2:] == b"\x90\x00"
    with pytest.raises(CardDamaged):
        card.adopt(tmp_path / "copies")
    assert card.details().slots == ()


def test_what_was_renewed_is_there_after_the_next_start_and_the_rest_stays(
    card: VirtualCard, tmp_path: Path
) -> None:
    encryption, guid, before = certificate(card, 0x9D), card.guid, card.details().generation
    der = renewed(card, tmp_path / "copies")
    card.adopt(tmp_path / "copies")
    card.adopt(tmp_path / "copies")  # carried out again after a kill
    again = type(card).load(store_in(tmp_path), card.card_id)
    assert certificate(again, 0x9A) == der
    assert certificate(again, 0x9D) == encryption
    assert again.guid == guid
    assert again.details().generation > before + 2
    assert again.lifecycle == "active"
    assert personalise.sign(again, 0x9A, b"new key", bytearray(PIN))

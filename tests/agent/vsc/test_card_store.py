"""Card files: what is wrong with one is said by name, and a cut leaves the old or the new."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from agent.keys_system import DeviceSecret, Level
from agent.vsc import personalise
from agent.vsc.card import VirtualCard
from agent.vsc.commands import Algorithm
from agent.vsc.state import Lifecycle
from agent.vsc.store import (
    CardDamaged,
    CardNotSaved,
    CardOfOtherDevice,
    CardStore,
    CardTruncated,
    CardUnknown,
    CardVersion,
    sweep,
)
from tests.support.virtual_cards import PIN, empty_card, store_in


@pytest.fixture
def cards(tmp_path: Path) -> CardStore:
    """An empty store."""
    return store_in(tmp_path)


def _file(cards: CardStore, card: VirtualCard) -> Path:
    return cards._folder / f"{card.card_id}.card"


@pytest.mark.parametrize("name", ["0" * 32, "../../etc/passwd", "", "G" * 32, "0" * 31])
def test_unknown_card(cards: CardStore, name: str) -> None:
    """What isn't a card's name never becomes a path."""
    with pytest.raises(CardUnknown):
        cards.load(name)
    with pytest.raises(CardUnknown):
        cards.delete(name)


def test_every_cut_is_recognised(cards: CardStore) -> None:
    """A file cut anywhere is truncated; one with something added too."""
    card = empty_card(cards)
    path = _file(cards, card)
    whole = path.read_bytes()
    for length in (*range(60), len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CardTruncated):
            cards.load(card.card_id)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CardTruncated):
        cards.load(card.card_id)


def test_every_changed_byte_is_recognised(cards: CardStore) -> None:
    """One bit changed anywhere: an error of its own kind, never another card."""
    card = empty_card(cards)
    path = _file(cards, card)
    whole = path.read_bytes()
    for index in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[index] ^= 1
        path.write_bytes(changed)
        with pytest.raises((CardDamaged, CardVersion, CardOfOtherDevice)):
            cards.load(card.card_id)


def test_other_version(cards: CardStore) -> None:
    """A newer file is left alone, with its version named."""
    card = empty_card(cards)
    path = _file(cards, card)
    path.write_bytes(path.read_bytes()[:8] + b"\x00\x03" + path.read_bytes()[10:])
    with pytest.raises(CardVersion) as error:
        cards.load(card.card_id)
    assert error.value.found == 3


def test_file_of_another_card(cards: CardStore) -> None:
    """A card's file under another's name isn't that other card."""
    one, other = empty_card(cards), empty_card(cards)
    _file(cards, one).write_bytes(_file(cards, other).read_bytes())
    with pytest.raises(CardDamaged):
        cards.load(one.card_id)


def test_list_names_bad_ones_and_shows_good_ones(cards: CardStore) -> None:
    """One damaged file doesn't hide the others."""
    good, bad = empty_card(cards), empty_card(cards)
    _file(cards, bad).write_bytes(b"")
    entries = {entry.card_id: entry for entry in cards.list_cards()}
    assert entries.keys() == {good.card_id, bad.card_id}
    assert isinstance(entries[bad.card_id].error, CardTruncated)
    state = entries[good.card_id].state
    assert state is not None
    assert state.lifecycle is Lifecycle.BEING_MADE


def test_lost_device_secret_is_said(cards: CardStore) -> None:
    """Cards under another secret are listed with that cause."""
    empty_card(cards)
    stranger = CardStore(cards._folder, DeviceSecret(os.urandom(32), Level.FILE))
    (entry,) = stranger.list_cards()
    assert entry.error is not None
    assert entry.error.code == "card_of_other_device"


def test_full_disk_leaves_the_old_state(cards: CardStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk refuses before the renaming: the file is the old one, and nothing lies about."""
    card = empty_card(cards)
    before = _file(cards, card).read_bytes()

    def refuse(_descriptor: int) -> None:
        raise OSError(28, "full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(CardNotSaved) as error:
            card.activate()
        with pytest.raises(personalise.CardRefused) as refused:
            personalise.generate(card, 0x9A, Algorithm.P_256)
    assert error.value.system_error == "ENOSPC"
    assert refused.value.code == "card_write_failed"
    assert _file(cards, card).read_bytes() == before
    assert card.lifecycle is Lifecycle.BEING_MADE
    assert len(list(cards._folder.iterdir())) == 1


def test_left_over_file_is_swept(cards: CardStore) -> None:
    """What a cut left between writing and renaming goes at the next start; cards stay."""
    card = empty_card(cards)
    (cards._folder / f".{card.card_id}.card.00.new").write_bytes(b"half")
    sweep(cards._folder)
    assert [path.name for path in cards._folder.iterdir()] == [f"{card.card_id}.card"]


def test_rights_and_content(cards: CardStore) -> None:
    """Owner only; no label, PIN or key in clear."""
    card = empty_card(cards)
    path = _file(cards, card)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(cards._folder.stat().st_mode) == 0o700
    assert b"Virtual smart card" not in path.read_bytes()
    assert PIN not in path.read_bytes()


def test_saved_versions_count_up(cards: CardStore) -> None:
    """Each save has a higher generation: a restored old file can be told."""
    card = empty_card(cards)
    personalise.generate(card, 0x9A, Algorithm.P_256)
    old = _file(cards, card).read_bytes()
    generation = cards.load(card.card_id).generation
    personalise.activate(card)
    assert cards.load(card.card_id).generation > generation
    _file(cards, card).write_bytes(old)
    assert cards.load(card.card_id).generation == generation


def test_whole_life(cards: CardStore) -> None:
    """Made, filled, activated, loaded again the same, deleted."""
    card = empty_card(cards)
    personalise.generate(card, 0x9A, Algorithm.P_256)
    personalise.write_certificate(card, 0x9A, b"0\x03abc" * 400)
    request = personalise.certificate_request(card, 0x9A, "CN=A B,O=C", bytearray(PIN))
    assert request[0] == 0x30
    details = personalise.activate(card)
    assert details.lifecycle is Lifecycle.ACTIVE
    assert details.level == "file"
    assert details.slots[0].certificate == b"0\x03abc" * 400
    again = VirtualCard.load(cards, card.card_id)
    assert again.details() == details
    assert personalise.read_certificate(again, 0x9A) == b"0\x03abc" * 400
    cards.delete(card.card_id)
    assert cards.list_cards() == []

"""Change of PIN and unblocking by the person: beside programs that use the card, and cut at any moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.vsc import personalise
from agent.vsc.card import VirtualCard
from agent.vsc.commands import Algorithm
from agent.vsc.pin_change import change_pin, unblock_pin
from agent.vsc.store import CardStore, sweep
from protocol.errors import InlayError
from tests.support.virtual_cards import PIN, PUK, empty_card, file_secret, store_in

NEW = b"Qx7!zz"
WRONG = b"000000"
SELECT = bytes.fromhex("00A4040005A000000308")

CUT = """
import os, signal, sys
from pathlib import Path
from agent.vsc.card import VirtualCard
from agent.vsc.pin_change import change_pin, unblock_pin
from tests.support.virtual_cards import PIN, PUK, store_in
act, moment, folder, name, new = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], sys.argv[5]
card = VirtualCard.load(store_in(folder), name)
left = [moment]
def counted(function):
    def call(*arguments, **named):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return function(*arguments, **named)
    return call
for owner, called in ((os, "open"), (os, "fsync"), (Path, "replace")):
    setattr(owner, called, counted(getattr(owner, called)))
change, known = (change_pin, PIN) if act == "change" else (unblock_pin, PUK)
change(card, bytearray(known), bytearray(new.encode()))
"""


@pytest.fixture
def cards(tmp_path: Path) -> CardStore:
    """An empty store."""
    return store_in(tmp_path)


def _verify(card: VirtualCard, pin: bytes) -> str:
    card.transmit(SELECT)
    return card.transmit(bytes.fromhex("0020008008") + pin.ljust(8, b"\xff")).hex()


def _status(card: VirtualCard) -> str:
    return card.transmit(bytes.fromhex("00200080")).hex()


def _refusal(card: VirtualCard, known: bytes, *, by_puk: bool = False) -> InlayError:
    with pytest.raises(InlayError) as caught:
        (unblock_pin if by_puk else change_pin)(card, bytearray(known), bytearray(NEW))
    return caught.value


@pytest.mark.parametrize("known", [b"", b"12345", b"123456789", b"1234\x0756", "12345ß".encode()])
@pytest.mark.parametrize("by_puk", [False, True])
def test_what_can_not_be_right_costs_no_try(cards: CardStore, known: bytes, by_puk: bool) -> None:
    card = empty_card(cards)
    with pytest.raises(ValueError, match="form"):
        (unblock_pin if by_puk else change_pin)(card, bytearray(known), bytearray(NEW))
    with pytest.raises(ValueError, match="form"):
        (unblock_pin if by_puk else change_pin)(card, bytearray(PUK if by_puk else PIN), bytearray(known))
    assert (card.details().pin_tries, card.details().puk_tries) == (3, 3)


def test_a_wrong_pin_counts_down_and_blocks_and_the_right_one_is_too_late(cards: CardStore) -> None:
    card = empty_card(cards)
    for left in (2, 1):
        refusal = _refusal(card, WRONG)
        assert (refusal.code, refusal.fields) == ("pin_wrong", {"tries": left})
    assert _refusal(card, WRONG).code == "pin_blocked"
    assert _refusal(card, PIN).code == "pin_blocked"
    assert VirtualCard.load(cards, card.card_id).details().pin_tries == 0


def test_a_wrong_puk_counts_down_and_blocks_and_the_pin_stays(cards: CardStore) -> None:
    card = empty_card(cards)
    for left in (2, 1):
        refusal = _refusal(card, WRONG, by_puk=True)
        assert (refusal.code, refusal.fields) == ("puk_wrong", {"tries": left})
    assert _refusal(card, WRONG, by_puk=True).code == "puk_blocked"
    assert _refusal(card, PUK, by_puk=True).code == "puk_blocked"
    assert _verify(card, PIN) == "9000"


def test_a_full_disk_leaves_the_old_pin(cards: CardStore, monkeypatch: pytest.MonkeyPatch) -> None:
    card = empty_card(cards)

    def refuse(_descriptor: int) -> None:
        raise OSError(28, "full")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", refuse)
        assert _refusal(card, PIN).code == "card_write_failed"
    assert _verify(card, NEW) == "63c2"
    assert _verify(card, PIN) == "9000"


def test_nobody_is_logged_in_afterwards_not_even_with_the_old_pin(cards: CardStore) -> None:
    """A program that had shown the old PIN can neither use keys nor show it again; nor does it get the new one."""
    card = empty_card(cards)
    personalise.generate(card, 0x9A, Algorithm.P_256)
    assert _verify(card, PIN) == "9000"
    change_pin(card, bytearray(PIN), bytearray(NEW))
    assert _status(card) == "63c3"
    sign = bytes.fromhex("0087119A267C2482008120") + bytes(32)
    assert card.transmit(sign).hex() == "6982"
    assert _verify(card, PIN) == "63c2"
    assert _verify(card, NEW) == "9000"
    unblock_pin(card, bytearray(PUK), bytearray(PIN))
    assert _status(card) == "63c3"
    assert _verify(card, NEW) == "63c2"
    assert _verify(card, PIN) == "9000"


def test_a_wrong_pin_typed_for_a_change_logs_programs_off(cards: CardStore) -> None:
    """As the standard has it for CHANGE REFERENCE DATA (SP 800-73pt2-5, section 3.2.2)."""
    card = empty_card(cards)
    assert _verify(card, PIN) == "9000"
    _refusal(card, WRONG)
    assert _status(card) == "63c2"


def test_a_command_half_sent_by_a_program_is_not_disturbed(cards: CardStore) -> None:
    """The pieces of a chained PUT DATA before and after a change make one command, for who has proved the key."""
    card = empty_card(cards)
    whole = bytes.fromhex("5C035FC109530548656C6C6F")
    before = bytes([0x10, 0xDB, 0x3F, 0xFF, 6]) + whole[:6]
    assert card.transmit(SELECT)[-2:] == b"\x90\x00"
    assert card.transmit(before) == b"\x90\x00"
    change_pin(card, bytearray(PIN), bytearray(NEW))
    after = bytes([0x00, 0xDB, 0x3F, 0xFF, 6]) + whole[6:]
    assert card.transmit(after).hex() == "6982"  # whole and understood: it lacks the management key alone


def test_a_selection_is_not_needed_and_not_made(cards: CardStore) -> None:
    card = empty_card(cards)
    change_pin(card, bytearray(PIN), bytearray(NEW))
    assert card.transmit(bytes.fromhex("00200080")).hex() == "6985"
    assert _verify(VirtualCard.load(cards, card.card_id), NEW) == "9000"


def test_unblocking_gives_all_tries_back_and_the_keys_stay(cards: CardStore) -> None:
    card = empty_card(cards)
    personalise.generate(card, 0x9A, Algorithm.P_256)
    for _ in range(3):
        _refusal(card, WRONG)
    unblock_pin(card, bytearray(PUK), bytearray(NEW))
    assert (card.details().pin_tries, card.details().puk_tries) == (3, 3)
    assert personalise.sign(card, 0x9A, b"message", bytearray(NEW))


@pytest.mark.parametrize("act", ["change", "unblock"])
def test_killed_at_any_moment_the_card_has_the_old_pin_or_the_new_one(tmp_path: Path, act: str) -> None:
    """SIGKILL before each act on the disk: one of the two PINs, a whole file, and at most one try spent."""
    file_secret(tmp_path)
    seen = set()
    for moment in range(100):
        store = store_in(tmp_path)
        card = empty_card(store)
        arguments = [sys.executable, "-c", CUT, act, str(moment), str(tmp_path), card.card_id, NEW.decode()]
        done = subprocess.run(arguments, cwd=Path(__file__).parents[3], capture_output=True, check=False)
        assert done.returncode in (0, -9), done.stderr
        sweep(tmp_path / "cards")
        after = VirtualCard.load(store, card.card_id)
        assert after.details().pin_tries >= 2
        assert after.details().puk_tries >= 2
        has_new = _verify(after, NEW) == "9000"
        assert has_new or _verify(after, PIN) == "9000"
        seen.add(has_new)
        if done.returncode == 0:
            assert has_new
            break
    assert seen == {False, True}
    assert moment > 4

"""The PIN is changed while another program has it verified and keeps using the card, through pcscd and vpcd."""

from __future__ import annotations

import secrets
import threading
from pathlib import Path

import pytest
from smartcard.CardConnection import CardConnection
from smartcard.System import readers

from agent.vsc.pin_change import change_pin, unblock_pin
from tests.support.pcscd import PrivatePcscd
from tests.support.virtual_cards import EC_KEYS, PIN, PUK, InReader, full_card, store_in

NEW = b"k7mZ42"
SELECT = bytes.fromhex("00A4040005A000000308")

pytestmark = pytest.mark.interop


class Program:
    """Another program with the card open."""

    def __init__(self, reader: str) -> None:
        (found,) = [item for item in readers() if str(item) == reader]
        self.connection = found.createConnection()
        self.connection.connect(CardConnection.T1_protocol)
        self.send(SELECT)

    def send(self, command: bytes) -> int:
        """Send a command; the status word."""
        _, first, second = self.connection.transmit(list(command))
        return int(first) << 8 | int(second)

    def verify(self, pin: bytes) -> int:
        return self.send(bytes.fromhex("0020008008") + pin.ljust(8, b"\xff"))

    def sign(self) -> int:
        """Use the key of 9A."""
        return self.send(bytes.fromhex("0087119A267C2482008120") + secrets.token_bytes(32) + b"\x00")


def test_who_had_the_old_pin_is_logged_off_and_nothing_else_is_disturbed(
    pcscd: PrivatePcscd, tmp_path: Path
) -> None:
    card = full_card(store_in(tmp_path), EC_KEYS)
    with InReader(card, pcscd.vpcd_port):
        program = Program(pcscd.readers[0])
        assert program.verify(PIN) == 0x9000
        assert program.sign() == 0x9000
        change_pin(card, bytearray(PIN), bytearray(NEW))
        assert program.sign() == 0x6982
        assert program.verify(PIN) == 0x63C2
        assert program.verify(NEW) == 0x9000
        assert program.sign() == 0x9000  # still selected, still connected
        unblock_pin(card, bytearray(PUK), bytearray(PIN))
        assert program.sign() == 0x6982
        assert program.verify(PIN) == 0x9000
        program.connection.disconnect()


def test_changes_and_signatures_at_once_leave_both_whole(pcscd: PrivatePcscd, tmp_path: Path) -> None:
    """Each answer is a signature or that the PIN is wanted; each change is done; the last PIN counts."""
    card = full_card(store_in(tmp_path), EC_KEYS)
    seen: set[int] = set()
    with InReader(card, pcscd.vpcd_port):
        program = Program(pcscd.readers[0])
        done = threading.Event()

        def change() -> None:
            for old, new in ((PIN, NEW), (NEW, PIN)) * 20:
                change_pin(card, bytearray(old), bytearray(new))
            done.set()

        changing = threading.Thread(target=change)
        changing.start()
        while not done.is_set():
            seen.add(program.sign())
        changing.join()
        assert seen <= {0x9000, 0x6982}
        assert program.verify(PIN) == 0x9000
        assert program.sign() == 0x9000
        program.connection.disconnect()
    assert card.details().pin_tries == 3

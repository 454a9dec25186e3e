"""Data objects: fixed ones as the standard prints them, written ones come back, whatever their size."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path

import pytest

from agent.vsc import objects, tlv
from agent.vsc.card import VirtualCard
from agent.vsc.commands import MAX_OBJECT_BYTES
from agent.vsc.keys_software import SoftwareKeys
from tests.support.virtual_cards import empty_card, store_in

SELECT = bytes.fromhex("00A4040005A000000308")
NON_FEDERAL = bytes.fromhex("D4E739DA739CED39CE739D836858210842108421C84210C3EB")
FACE = bytes.fromhex("5C035FC108")
SECURITY = bytes.fromhex("5C035FC106")


@pytest.fixture
def card(tmp_path: Path) -> VirtualCard:
    """A card, selected, its management key proved."""
    made = empty_card(store_in(tmp_path))
    made.transmit(SELECT)
    challenge = made.transmit(bytes.fromhex("00870A9B047C02810000"))[4:20]
    answer = bytes.fromhex("00870A9B147C128210") + made.answer_management_challenge(challenge)
    assert made.transmit(answer) == b"\x90\x00"
    return made


def _put(card: VirtualCard, tag_list: bytes, value: bytes) -> bytes:
    """PUT DATA in chained pieces of 255 bytes."""
    data = tag_list + tlv.encode(0x53, value)
    pieces = [data[start : start + 255] for start in range(0, len(data), 255)]
    answers = [
        card.transmit(bytes([cla, 0xDB, 0x3F, 0xFF, len(piece)]) + piece)
        for piece in pieces
        for cla in [0x00 if piece is pieces[-1] else 0x10]
    ]
    assert set(answers[:-1]) <= {b"\x90\x00"}
    return answers[-1]


def _get(card: VirtualCard, tag_list: bytes) -> bytes:
    """GET DATA in pieces of 256 bytes."""
    answer = card.transmit(b"\x00\xcb\x3f\xff\x05" + tag_list + b"\x00")
    data = answer[:-2]
    while answer[-2] == 0x61:
        answer = card.transmit(b"\x00\xc0\x00\x00" + answer[-1:])
        data += answer[:-2]
    assert answer[-2:] == b"\x90\x00"
    return data


def test_too_large_object_leaves_the_old_one(card: VirtualCard) -> None:
    """One byte more than the card takes: 6A84, and what was there is still there."""
    assert _put(card, SECURITY, b"old") == b"\x90\x00"
    assert _put(card, SECURITY, bytes(MAX_OBJECT_BYTES + 1)) == b"\x6a\x84"
    assert _get(card, SECURITY) == tlv.encode(0x53, b"old")


def test_unknown_object_is_not_written(card: VirtualCard) -> None:
    """Tags nobody defined, and the fixed discovery object."""
    for tag_list in ("5C035FC1FF", "5C035FC104", "5C0312345A"):
        assert _put(card, bytes.fromhex(tag_list), b"x") == b"\x6a\x82"
    assert _put(card, bytes.fromhex("5C017E"), b"x") == b"\x6a\x82"


def test_guarded_object_is_written_without_and_read_with_the_pin(card: VirtualCard) -> None:
    """The facial image needs the management key to write and the PIN to read."""
    assert _put(card, FACE, b"image") == b"\x90\x00"
    assert card.transmit(b"\x00\xcb\x3f\xff\x05" + FACE + b"\x00") == b"\x69\x82"
    assert card.transmit(bytes.fromhex("0020008008313233343536FFFF")) == b"\x90\x00"
    assert _get(card, FACE) == tlv.encode(0x53, b"image")


@pytest.mark.parametrize("size", [1, 127, 128, 250, 256, 3000, MAX_OBJECT_BYTES])
def test_object_of_any_size_comes_back(card: VirtualCard, size: int) -> None:
    """Chained in, in pieces out."""
    assert _put(card, SECURITY, b"\xa5" * size) == b"\x90\x00"
    assert _get(card, SECURITY) == tlv.encode(0x53, b"\xa5" * size)


def test_empty_object_deletes(card: VirtualCard) -> None:
    """PUT DATA of 53 00: gone, and gone again."""
    _put(card, SECURITY, b"x")
    for _ in range(2):
        assert _put(card, SECURITY, b"") == b"\x90\x00"
    assert card.transmit(b"\x00\xcb\x3f\xff\x05" + SECURITY + b"\x00") == b"\x6a\x82"


def test_chuid() -> None:
    """The non-federal FASC-N as every maker prints it, GUID and date in their places."""
    value = objects.chuid(bytes(range(16)), datetime.date(2030, 12, 31))
    fields = tlv.parse_map(value)
    assert fields[0x30] == NON_FEDERAL
    assert fields[0x35] == b"20301231"
    assert objects.chuid_guid(value) == bytes(range(16))
    assert objects.chuid_guid(b"") is None
    assert objects.chuid_guid(b"\x34\x10") is None


def test_certificate_object() -> None:
    """Wrapped and unwrapped; compressed or malformed: none."""
    assert objects.certificate_in(objects.certificate_object(b"der")) == b"der"
    assert objects.certificate_in(tlv.encode(0x70, b"der") + tlv.encode(0x71, b"\x01")) is None
    assert objects.certificate_in(b"\x70\x7f") is None


def test_own_fault_is_answered_and_told_without_content(
    card: VirtualCard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of ours: 6F00, everybody logged out, its kind in the log and nothing of the command."""

    def fail(*_arguments: object) -> None:
        raise RuntimeError("with 123456 in its text")

    monkeypatch.setattr(SoftwareKeys, "open_by", fail)
    with caplog.at_level(logging.DEBUG):
        assert card.transmit(bytes.fromhex("0020008008313233343536FFFF")) == b"\x6f\x00"
    assert "RuntimeError" in caplog.text
    assert "123456" not in caplog.text
    assert "313233" not in caplog.text
    assert _put(card, SECURITY, b"x") == b"\x69\x82"

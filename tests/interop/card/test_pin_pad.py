"""PIN and PUK typed at a reader with a pad: a real pcscd, a driver with the two features, our card in it."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.pcsc import piv_pad, piv_pin, piv_select
from agent.pcsc.connection import CardConnection
from agent.pcsc.pin_pad import Pad
from agent.pcsc.piv_names import PIN as PIN_REFERENCE
from agent.pcsc.piv_names import PUK as PUK_REFERENCE
from agent.pcsc.scard import Connection, Context
from protocol.errors import InlayError
from tests.support.pcscd import PrivatePcscd
from tests.support.pin_pad_reader import (
    CANCELLED,
    READER,
    TIMED_OUT,
    WRONG_LENGTH,
    ModifyStructure,
    PinPad,
    VerifyStructure,
    pin_pad,
)
from tests.support.virtual_cards import EC_KEYS, PIN, PUK, InReader, full_card, store_in

pytestmark = pytest.mark.interop
NEW = b"24681357"


@pytest.fixture(scope="module")
def reader(pcscd: PrivatePcscd) -> Iterator[PinPad]:
    """The reader; its socket's path is a short one."""
    with tempfile.TemporaryDirectory() as folder:
        card = full_card(store_in(Path(folder)), EC_KEYS)
        with pin_pad(Path(folder), pcscd, card) as pad:
            yield pad


@pytest.fixture
def inserted(reader: PinPad, tmp_path: Path) -> Iterator[tuple[PinPad, CardConnection, Pad]]:
    """A fresh card in it, a connection, and what the reader says of its pad."""
    if reader.card is None:
        reader.remove()  # and pcscd knows it
    reader.card = full_card(store_in(tmp_path), EC_KEYS)
    reader.typed.clear()
    reader.asked.clear()
    with Context() as context, CardConnection(_connected(context, READER), READER) as card:
        piv_select.select(card)
        pad = piv_pad.pad_in(card)
        assert pad is not None
        yield reader, card, pad


def _connected(context: Context, reader: str) -> Connection:
    """A connection, as soon as pcscd has noticed the card (it looks every 400 ms)."""
    for _ in range(200):
        for state in context.readers():
            if state.name == reader and state.present:
                return context.connect(reader)
        threading.Event().wait(0.05)
    raise AssertionError("pcscd does not see the card")


Work = Callable[[CardConnection, Pad], None]


def _verify(card: CardConnection, pad: Pad) -> None:
    piv_pad.verify(card, pad)


def _change(card: CardConnection, pad: Pad) -> None:
    piv_pad.change(card, pad, PIN_REFERENCE)


def _unblock(card: CardConnection, pad: Pad) -> None:
    piv_pad.unblock(card, pad)


# --- what goes wrong


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        (CANCELLED, "pad_cancelled"),
        (TIMED_OUT, "pad_timeout"),
        (WRONG_LENGTH, "pad_length"),
        (b"12345", "pad_length"),
    ],
    ids=["cancelled", "timed out", "told too long", "too short"],
)
@pytest.mark.parametrize("work", [_verify, _change, _unblock])
def test_what_ends_at_the_pad_spends_no_try(
    inserted: tuple[PinPad, CardConnection, Pad], typed: bytes, code: str, work: Work
) -> None:
    reader, card, pad = inserted
    values = 1 if work is _verify else 3
    reader.typed.append(b" ".join([typed] * values) if typed.isdigit() else typed)
    with pytest.raises(InlayError) as caught:
        work(card, pad)
    assert caught.value.code == code
    assert reader.card is not None
    details = reader.card.details()
    assert (details.pin_tries, details.puk_tries) == (3, 3)


def test_wrong_pin_at_the_pad_costs_one_try(inserted: tuple[PinPad, CardConnection, Pad]) -> None:
    reader, card, pad = inserted
    reader.typed += [b"999999", PIN]
    with pytest.raises(InlayError) as caught:
        piv_pad.verify(card, pad)
    assert (caught.value.code, caught.value.fields) == ("card_pin_wrong", {"tries": 2})
    piv_pad.verify(card, pad)


def test_blocked_at_the_pad_is_said(inserted: tuple[PinPad, CardConnection, Pad]) -> None:
    reader, card, pad = inserted
    reader.typed += [b"999999"] * 3
    codes = []
    for _ in range(3):
        with pytest.raises(InlayError) as caught:
            piv_pad.verify(card, pad)
        codes.append(caught.value.code)
    assert codes == ["card_pin_wrong", "card_pin_wrong", "card_pin_blocked"]


def test_new_pins_that_differ_change_nothing(inserted: tuple[PinPad, CardConnection, Pad]) -> None:
    reader, card, pad = inserted
    reader.typed += [PIN + b" 111111 222222", PIN]
    with pytest.raises(InlayError) as caught:
        piv_pad.change(card, pad, PIN_REFERENCE)
    assert caught.value.code == "pad_not_repeated"
    piv_pad.verify(card, pad)


def test_card_that_is_pulled_while_the_pad_waits_is_gone(
    inserted: tuple[PinPad, CardConnection, Pad],
) -> None:
    reader, card, pad = inserted
    reader.typed.append(b"pull")
    with pytest.raises(InlayError) as caught:
        piv_pad.verify(card, pad)
    assert caught.value.code == "pcsc_card_removed"


def test_policy_that_no_pin_of_the_pad_keeps_is_named_before_anything(
    inserted: tuple[PinPad, CardConnection, Pad], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, card, pad = inserted
    monkeypatch.setattr(reader, "properties", b"\x07\x01\x04")
    with pytest.raises(InlayError) as caught:
        piv_pad.verify(card, pad)
    assert caught.value.code == "pad_too_small"
    assert reader.asked == []


def test_reader_without_a_pad_has_none(pcscd: PrivatePcscd, tmp_path: Path) -> None:
    card = full_card(store_in(tmp_path), EC_KEYS)
    with (
        InReader(card, pcscd.vpcd_port),
        Context() as context,
        CardConnection(_connected(context, pcscd.readers[0]), pcscd.readers[0]) as connection,
    ):
        assert piv_pad.pad_in(connection) is None


# --- what goes right


def test_pin_is_verified_by_the_structure_of_the_standard(
    inserted: tuple[PinPad, CardConnection, Pad],
) -> None:
    reader, card, pad = inserted
    reader.typed.append(PIN)
    piv_pad.verify(card, pad)
    apdu = bytes.fromhex("0020008008FFFFFFFFFFFFFFFF")
    expected = VerifyStructure(30, 30, 0x82, 0x08, 0, 0x0608, 2, 1, 0x0409, 0, bytes(3), len(apdu), apdu)
    assert reader.asked == [expected]
    assert card.proved
    assert piv_pin.tries_left(card) is not None


def test_pin_is_changed_and_unblocked_by_the_structure_of_the_standard(
    inserted: tuple[PinPad, CardConnection, Pad],
) -> None:
    reader, card, pad = inserted
    reader.typed += [b" ".join([PIN, NEW, NEW]), NEW, b" ".join([PUK, PIN, PIN]), PIN]
    piv_pad.change(card, pad, PIN_REFERENCE)
    piv_pad.verify(card, pad)
    piv_pad.unblock(card, pad)
    piv_pad.verify(card, pad)
    for asked, command in ((reader.asked[0], "00240080"), (reader.asked[2], "002C0080")):
        apdu = bytes.fromhex(f"{command}10{'FF' * 16}")
        assert asked == ModifyStructure(
            30, 30, 0x82, 0x08, 0, 0, 8, 0x0608, 3, 2, 3, 0x0409, 0, 1, 2, bytes(3), len(apdu), apdu
        )


def test_puk_is_changed(inserted: tuple[PinPad, CardConnection, Pad]) -> None:
    reader, card, pad = inserted
    reader.typed += [b" ".join([PUK, NEW, NEW]), b" ".join([NEW, PIN, PIN])]
    piv_pad.change(card, pad, PUK_REFERENCE)
    piv_pad.unblock(card, pad)
    assert reader.asked[0].data[3] == PUK_REFERENCE

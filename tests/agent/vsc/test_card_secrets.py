"""What the card does with a wrong value doesn't depend on how much of it is right."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

import pytest
from argon2.low_level import hash_secret_raw

from agent.vsc.commands import MANAGEMENT
from tests.support.virtual_cards import PIN, PUK, empty_card, store_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.vsc.card import VirtualCard

SELECT = bytes.fromhex("00A404000BA000000308000010000100")
LENGTHS = range(7)
"""How many bytes of a wrong value are the right one's."""


@pytest.fixture
def card(tmp_path: Path) -> VirtualCard:
    made = empty_card(store_in(tmp_path))
    assert made.transmit(SELECT)[-2:] == b"\x90\x00"
    return made


@pytest.fixture
def stretched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Length of each value that Argon2id got."""
    seen: list[int] = []
    real: Callable[..., bytes] = hash_secret_raw

    def noted(secret: bytes, *arguments: object) -> bytes:
        seen.append(len(secret))
        return real(secret, *arguments)

    monkeypatch.setattr("agent.vsc.keys_software.hash_secret_raw", noted)
    return seen


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """What was compared."""
    seen: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def noted(one: bytes, other: bytes) -> bool:
        seen.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noted)
    return seen


def _wrong(right: bytes, alike: int) -> bytes:
    """As long as the right one, and different from a byte on."""
    return right[:alike] + bytes(byte ^ 1 for byte in right[alike:])


def _verify(card: VirtualCard, value: bytes) -> bytes:
    return card.transmit(b"\x00\x20\x00\x80\x08" + value.ljust(8, b"\xff"))


@pytest.mark.parametrize("alike", LENGTHS[: len(PIN)])
def test_a_wrong_pin_of_a_card_that_is_shut(card: VirtualCard, stretched: list[int], alike: int) -> None:
    """Stretched once and as a whole, and the same answer, with whatever it begins."""
    assert _verify(card, _wrong(PIN, alike)) == b"\x63\xc2"
    assert stretched == [len(PIN)]


@pytest.mark.parametrize("alike", LENGTHS[: len(PIN)])
def test_a_wrong_pin_of_a_card_that_is_open(
    card: VirtualCard, stretched: list[int], compared: list[tuple[bytes, bytes]], alike: int
) -> None:
    """Compared once, by digests of the whole value: how much of them is alike tells nothing of the PIN."""
    assert _verify(card, PIN) == b"\x90\x00"
    stretched.clear()
    compared.clear()
    assert _verify(card, _wrong(PIN, alike)) == b"\x63\xc2"
    assert stretched == []
    ((known, given),) = compared
    assert (len(known), len(given)) == (32, 32)
    assert PIN not in known
    assert sum(one == other for one, other in zip(known, given, strict=True)) < 8


@pytest.mark.parametrize("alike", LENGTHS)
def test_a_wrong_puk(card: VirtualCard, stretched: list[int], alike: int) -> None:
    """The new PIN is not looked at before the PUK was right."""
    new = b"135790\xff\xff"
    assert card.transmit(b"\x00\x2c\x00\x80\x10" + _wrong(PUK, alike) + new) == b"\x63\xc2"
    assert stretched == [len(PUK)]


@pytest.mark.parametrize("alike", [*range(16), None])
def test_a_wrong_answer_of_the_management_key(
    card: VirtualCard, compared: list[tuple[bytes, bytes]], alike: int | None
) -> None:
    """Compared once and as a whole; one that is cut short is as wrong as any."""
    algorithm = card.management_algorithm
    ask = bytes((0x00, 0x87, algorithm, MANAGEMENT, 0x04, 0x7C, 0x02, 0x81, 0x00, 0x00))
    challenge = card.transmit(ask)[4:-2]
    right = card.answer_management_challenge(challenge)
    given = right[:-1] if alike is None else _wrong(right, alike)
    template = bytes((0x7C, len(given) + 2, 0x82, len(given))) + given
    compared.clear()
    answer = card.transmit(bytes((0x00, 0x87, algorithm, MANAGEMENT, len(template))) + template)
    assert answer == b"\x69\x82"
    assert compared == [(right, given)]

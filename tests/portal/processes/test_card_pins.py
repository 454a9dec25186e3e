"""PINs that the portal draws: none that is tried first."""

from __future__ import annotations

import pytest

from portal.processes import card_pins


@pytest.mark.parametrize(
    "pin",
    [
        b"000000",
        b"112345",
        b"582246",
        b"123456",
        b"765432",
        b"581236",
        b"904321",
        b"272727",
        b"394394",
        b"84848484",
    ],
)
def test_pins_that_are_tried_first_are_trivial(pin: bytes) -> None:
    assert card_pins.trivial(pin)


@pytest.mark.parametrize("pin", [b"283917", b"135790", b"9081726", b"12457815"])
def test_other_pins_are_not(pin: bytes) -> None:
    assert not card_pins.trivial(pin)


def test_drawn_pins_are_digits_of_their_length_and_differ() -> None:
    drawn = {bytes(card_pins.draw(8)) for _ in range(200)}
    assert len(drawn) > 190
    assert all(len(pin) == 8 and pin.isdigit() and not card_pins.trivial(pin) for pin in drawn)

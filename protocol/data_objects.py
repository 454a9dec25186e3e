"""Data objects of a PIV card that an order may write as they are, and those that somebody else keeps.

SP 800-73pt1-5, table 3 (tags); Yubico's own: https://docs.yubico.com/yesdk/users-manual/application-piv/piv-objects.html
"""

from __future__ import annotations

import enum
from typing import Final

MOST: Final = 8
"""Objects of one order."""
MOST_BYTES: Final = 12_000
"""Of all objects of one order: a message carries them."""


class Keeper(enum.StrEnum):
    """Whose an object is that no order writes as it is."""

    IDENTITY = "identity"
    """who the card is: programs know it by that, and Inlay writes it"""
    CERTIFICATE = "certificate"
    """of a key, which Inlay writes with its key"""
    HISTORY = "history"
    """counts the keys that go when somebody else gets the card"""
    CARD = "card"
    """what the card says of itself: its PINs, its secure channel"""
    BIOMETRICS = "biometrics"
    """a person is told by it"""
    STANDARD = "standard"
    """the standard has given it no meaning yet"""
    YUBICO = "yubico"
    """what Yubico's tools and drivers remember of PIN, PUK, management key, keys and trusted certificates"""


_KEPT: Final = {
    **dict.fromkeys((0x5FC102, 0x5FC107), Keeper.IDENTITY),
    **dict.fromkeys((0x5FC101, 0x5FC105, 0x5FC10A, 0x5FC10B, *range(0x5FC10D, 0x5FC121)), Keeper.CERTIFICATE),
    0x5FC10C: Keeper.HISTORY,
    **dict.fromkeys((0x7E, 0x5FC122, 0x5FC123), Keeper.CARD),
    **dict.fromkeys((0x7F61, 0x5FC103, 0x5FC121), Keeper.BIOMETRICS),
}
_NAMES: Final = {
    0x5FC106: "security object",
    0x5FC108: "facial image",
    0x5FC109: "printed information",
}
"""Of the standard's objects those that an order writes."""


def keeper(tag: str) -> Keeper | None:
    """Whose an object is; None: an order may write it.

    Args:
        tag: hexadecimal.
    """
    number = int(tag, 16)
    if number in _KEPT or number in _NAMES:
        return _KEPT.get(number)
    if number >> 8 == 0x5FC1:
        return Keeper.STANDARD
    return Keeper.YUBICO if number >> 8 == 0x5FFF else None


def name(tag: str) -> str:
    """An object for people: ``printed information (5FC109)``; one of a maker's own by its tag alone."""
    known = _NAMES.get(int(tag, 16))
    return tag if known is None else f"{known} ({tag})"

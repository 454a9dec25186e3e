"""When keys of a PIV card ask for the PIN and for a touch, where nobody says anything else.

SP 800-73pt1-5, table 4b, and what Yubico's cards do in each place by default: any PIV card is like this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from protocol.words import KeyPinPolicy, KeyTouchPolicy

if TYPE_CHECKING:
    from protocol.operations import KeyOrder

_PIN: Final = {"9C": KeyPinPolicy.ALWAYS, "9E": KeyPinPolicy.NEVER}
_STRICTNESS: Final = tuple(KeyPinPolicy)
"""Least strict first."""


def standard_pin(slot: str) -> KeyPinPolicy:
    """When a key in a place asks for the PIN, by the standard."""
    return _PIN.get(slot, KeyPinPolicy.ONCE)


def is_weaker(slot: str, wanted: KeyPinPolicy) -> bool:
    """Whether a key would ask for the PIN less often than the standard has it for its place."""
    return _STRICTNESS.index(wanted) < _STRICTNESS.index(standard_pin(slot))


def text(pin: KeyPinPolicy | None, touch: KeyTouchPolicy | None) -> str:
    """Policies as errors name them: ``PIN always, touch cached``."""
    parts = {"PIN": pin, "touch": touch}
    return ", ".join(f"{name} {policy.value}" for name, policy in parts.items() if policy is not None)


def beyond_standard(slot: str, pin: KeyPinPolicy | None, touch: KeyTouchPolicy | None) -> bool:
    """Whether a key has to be otherwise than any card has it in its place."""
    return pin not in (None, standard_pin(slot)) or touch not in (None, KeyTouchPolicy.NEVER)


def wants_touch(key: KeyOrder) -> bool:
    """Whether an order's key works after a touch of the card alone."""
    return key.touch_policy not in (None, KeyTouchPolicy.NEVER)

"""PINs of 9 to 15 characters, which a PIV card can't hold (SP 800-73pt2-5, section 2.4.3: eight bytes).

With ``AgentOnlyPIN`` a policy may ask for them. The card's own PIN is then eight characters that only the agent
can work out, from the person's PIN and the device secret. Other programs never learn them, so they can't use
such a card: the option says so. A PIN that fits is never changed, and a long one is never cut.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.keys_system import DeviceSecret

CARD_PIN_BYTES: Final = 8
_FIRST, _COUNT = 0x21, 94  # printable ASCII without the space


def card_pin(secret: DeviceSecret, card: str, pin: bytearray) -> bytearray:
    """The PIN as the card takes it.

    Args:
        secret: the device secret.
        card: name of the card; the same PIN gives another value on another card.
        pin: 6 to 15 bytes of printable ASCII.

    Returns:
        The PIN itself up to 8 bytes, else 8 printable bytes (52 bits). The caller wipes it.
    """
    if len(pin) <= CARD_PIN_BYTES:
        return bytearray(pin)
    digest = hmac.digest(secret.derive("long PIN"), card.encode() + b"\0" + pin, "sha256")
    pairs = (int.from_bytes(digest[i : i + 2], "big") for i in range(0, 2 * CARD_PIN_BYTES, 2))
    return bytearray(_FIRST + pair % _COUNT for pair in pairs)

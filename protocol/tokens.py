"""How a card by the driver ``pkcs11`` is named where others have the GUID of their CHUID.

A token has no GUID, and none can be written to it. It has a serial number, which its maker gives once, so the name is
made of that; both sides make it, and nobody has to keep it on the card.
"""

from __future__ import annotations

import hashlib
from typing import Final

_LABEL: Final = b"inlay-token-1"


def token_guid(serial: str, manufacturer: str = "") -> str:
    """The GUID that stands for a token.

    Args:
        serial: ``CK_TOKEN_INFO.serialNumber`` without the blanks that fill it, 1 to 16 characters.
        manufacturer: ``CK_TOKEN_INFO.manufacturerID`` without them; empty where the portal doesn't know it.

    Returns:
        32 hexadecimal digits: the first 16 bytes of ``SHA-256('inlay-token-1' ‖ 00 ‖ manufacturer ‖ 00 ‖ serial)``,
        all in UTF-8. No token holds a zero byte in either, so no two of them share one input.
    """
    parts = (_LABEL, manufacturer.encode(), serial.encode())
    return hashlib.sha256(b"\0".join(parts)).digest()[:16].hex()


def names_of(serial: str, manufacturer: str) -> frozenset[str]:
    """All GUIDs that an order may have for a token: with its maker's name, and without; none without a serial."""
    return frozenset({token_guid(serial), token_guid(serial, manufacturer)}) if serial else frozenset()

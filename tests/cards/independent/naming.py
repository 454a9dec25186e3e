"""What a card makes up to tell itself from others: SP 800-73-4 part 1 tables 8 and 9, and its key history.

As the sources of PivApplet have it, which does so when it is installed and at each RESET.
"""

from __future__ import annotations

import secrets

from tests.cards.independent import tlv

_CCC, _CHUID, _KEY_HISTORY = 0x5FC107, 0x5FC102, 0x5FC10C
_MAKER_UNKNOWN, _JAVA_CARD = 0xFF, 0x02


def objects() -> dict[int, bytes]:
    """CHUID, CCC and key history by tag, each time others."""
    card = bytes.fromhex("A000000116") + bytes([_MAKER_UNKNOWN, _JAVA_CARD]) + secrets.token_bytes(14)
    capabilities = {0xF0: card, 0xF1: b"\x21", 0xF2: b"\x21", 0xF5: b"\x10"}
    ccc = b"".join(
        tlv.build(tag, capabilities.get(tag, b"")) for tag in (*range(0xF0, 0xF8), *range(0xFA, 0xFF))
    )
    chuid = (
        tlv.build(0x30, bytes(25))
        + tlv.build(0x34, secrets.token_bytes(16))
        + tlv.build(0x35, b"20500101")
        + tlv.build(0x3E, b"")
        + tlv.build(0xFE, b"")
    )
    history = tlv.build(0xC1, b"\0") + tlv.build(0xC2, b"\0") + tlv.build(0xFE, b"")
    return {_CCC: ccc, _CHUID: chuid, _KEY_HISTORY: history}


def serial() -> bytes:
    """A serial number, four bytes; the first bit says that it is made up."""
    made = secrets.token_bytes(4)
    return bytes([made[0] | 0x80]) + made[1:]

"""The data objects of a PIV card: which there are, who may read them, and how the fixed ones are built.

SP 800-73pt1-5, sections 3 and 4 and appendix A. Values are what stands inside tag 53, except the
discovery object, which is its own template.
"""

from __future__ import annotations

import datetime
from collections.abc import Container, Mapping
from typing import Final

from agent.vsc import tlv
from agent.vsc.commands import ATTESTATION, PIV_AID, RETIRED

CHUID, CCC, DISCOVERY, KEY_HISTORY = 0x5FC102, 0x5FC107, 0x7E, 0x5FC10C
FINGERPRINTS, FACE, PRINTED, IRIS, PAIRING_CODE = 0x5FC103, 0x5FC108, 0x5FC109, 0x5FC121, 0x5FC123

NEEDS_PIN: Final = frozenset({FINGERPRINTS, FACE, PRINTED, IRIS, PAIRING_CODE})
"""Objects that are read with the PIN verified only (SP 800-73pt1-5, table 3)."""

_STANDARD: Final = frozenset(range(0x5FC101, 0x5FC124)) - {0x5FC104}
_YUBICO: Final = frozenset(range(0x5FFF00, 0x5FFF16))
WRITABLE: Final = _STANDARD | _YUBICO
"""Tags that GET DATA and PUT DATA know; the discovery object is fixed and read only."""

CERTIFICATE_TAGS: Final = {
    0x9A: 0x5FC105,
    0x9C: 0x5FC10A,
    0x9D: 0x5FC10B,
    0x9E: 0x5FC101,
    **{slot: 0x5FC10D + index for index, slot in enumerate(RETIRED)},
    ATTESTATION: 0x5FFF01,
}
"""Tag of the certificate that belongs to a slot."""

_GUID_TAG, _EXPIRY_TAG, _CERTIFICATE_TAG, _CERTIFICATE_INFO_TAG, _CHECK_TAG = 0x34, 0x35, 0x70, 0x71, 0xFE
_URL_TAG: Final = 0xF3

# FASC-N characters (PACS implementation guidance 2.2, appendix A): 4 bits lowest first, odd parity
_START, _SEPARATOR, _END = 0b11010, 0b10110, 0b11111


def discovery() -> bytes:
    """The discovery object, whole: this AID, and PIN usage policy 40 00 (the PIV PIN alone)."""
    return tlv.encode(DISCOVERY, tlv.encode(0x4F, PIV_AID) + tlv.encode(0x5F2F, b"\x40\x00"))


def chuid(guid: bytes, expires: datetime.date) -> bytes:
    """Build the card holder unique identifier.

    Args:
        guid: 16 random bytes; programs tell cards apart by them.
        expires: last day of the card.

    Returns:
        FASC-N of a non-federal issuer, GUID, expiry date, an empty signature, an empty check.
    """
    return b"".join(
        (
            tlv.encode(0x30, _fasc_n()),
            tlv.encode(_GUID_TAG, guid),
            tlv.encode(_EXPIRY_TAG, expires.strftime("%Y%m%d").encode("ascii")),
            tlv.encode(0x3E, b""),
            tlv.encode(_CHECK_TAG, b""),
        )
    )


def chuid_guid(value: bytes) -> bytes | None:
    """The GUID inside a CHUID; None when there is none of 16 bytes."""
    try:
        guid = tlv.parse_map(value).get(_GUID_TAG, b"")
    except tlv.TlvError:
        return None
    return guid if len(guid) == 16 else None


def capabilities(unique: bytes) -> bytes:
    """Build the card capability container (GSC-IS 2.1, as SP 800-73pt1-5, appendix A, table 8 has it).

    Args:
        unique: 14 bytes that no other card has.
    """
    identifier = bytes.fromhex("A000000116FF02") + unique
    fixed = (
        (0xF1, b"\x21"),
        (0xF2, b"\x21"),
        (0xF3, b""),
        (0xF4, b"\x00"),
        (0xF5, b"\x10"),
        *((tag, b"") for tag in (0xF6, 0xF7, 0xFA, 0xFB, 0xFC, 0xFD, _CHECK_TAG)),
    )
    return tlv.encode(0xF0, identifier) + b"".join(tlv.encode(tag, value) for tag, value in fixed)


def chuid_expiry(value: bytes) -> datetime.date | None:
    """The last day inside a CHUID; None when there is none."""
    try:
        text = tlv.parse_map(value).get(_EXPIRY_TAG, b"").decode("ascii")
        return datetime.datetime.strptime(text, "%Y%m%d").replace(tzinfo=datetime.UTC).date()
    except ValueError:  # a TlvError is one
        return None


def key_history(on_card: int = 0, off_card: int = 0, url: bytes = b"") -> bytes:
    """Build the key history object (SP 800-73pt1-5, section 3.3.3 and appendix A, table 24).

    Args:
        on_card: retired keys whose certificates are on the card.
        off_card: retired keys whose certificates are elsewhere; 0 without a URL.
        url: where those are; the object has the field only when it is not empty.
    """
    where = tlv.encode(_URL_TAG, url) if url else b""
    counts = tlv.encode(0xC1, bytes([on_card])) + tlv.encode(0xC2, bytes([off_card]))
    return counts + where + tlv.encode(_CHECK_TAG, b"")


def with_key_history(stored: Mapping[int, bytes], slots: Container[int]) -> dict[int, bytes]:
    """The objects with a key history that fits the retired keys.

    The standard has them fill the slots from 82 on. Where a host left a gap, the count goes as far as the
    last one: readers that look at so many slots from 82 on, as OpenSC does, then miss none.

    Args:
        stored: objects by tag.
        slots: slots that hold a key.
    """
    held = [slot for slot in RETIRED if slot in slots]
    certified = [slot for slot in held if CERTIFICATE_TAGS[slot] in stored]
    url = _history_url(stored.get(KEY_HISTORY, b""))
    on_card = certified[-1] - RETIRED[0] + 1 if certified else 0
    off_card = len(held) - len(certified) if url else 0
    return {**stored, KEY_HISTORY: key_history(on_card, off_card, url)}


def _history_url(value: bytes) -> bytes:
    try:
        return tlv.parse_map(value).get(_URL_TAG, b"")
    except tlv.TlvError:
        return b""


def certificate_object(der: bytes) -> bytes:
    """Build a certificate object around an X.509 certificate, not compressed."""
    return (
        tlv.encode(_CERTIFICATE_TAG, der)
        + tlv.encode(_CERTIFICATE_INFO_TAG, b"\x00")
        + tlv.encode(_CHECK_TAG, b"")
    )


def certificate_in(value: bytes) -> bytes | None:
    """The DER certificate inside an object; None when there is none or it is compressed."""
    try:
        fields = tlv.parse_map(value)
    except tlv.TlvError:
        return None
    return fields.get(_CERTIFICATE_TAG) if fields.get(_CERTIFICATE_INFO_TAG) == b"\x00" else None


def _fasc_n() -> bytes:
    """The FASC-N of issuers outside the US government: agency, system and credential all nines."""
    groups = ("9999", "9999", "999999", "0", "1")
    characters = [_START]
    for group in groups:
        characters += [*map(_character, group), _SEPARATOR]
    characters += [*map(_character, "0000000000" + "3" + "0000" + "1"), _END]
    check = 0
    for character in characters:
        check ^= character >> 1
    characters.append(_with_parity(check))
    bits = 0
    for character in characters:
        bits = bits << 5 | character
    return bits.to_bytes(25, "big")


def _character(digit: str) -> int:
    return _with_parity(int(f"{int(digit):04b}"[::-1], 2))


def _with_parity(bits: int) -> int:
    return bits << 1 | (bits.bit_count() + 1) % 2

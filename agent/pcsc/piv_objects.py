"""Data objects: read, write, delete; certificates, CHUID, CCC, discovery object, key history.

SP 800-73pt2-5, sections 3.1.2 and 3.3.2; part 1, section 3 and appendix A.
"""

from __future__ import annotations

import datetime
import os
import zlib
from dataclasses import dataclass
from typing import Final

from agent.pcsc import tlv
from agent.pcsc.apdu import OK, Card, Command, malformed
from agent.pcsc.piv_names import CCC, CERTIFICATES, CHUID, DISCOVERY, KEY_HISTORY, slot_name
from agent.pcsc.status import (
    ABSENT,
    NO_FUNCTION,
    NO_ROOM,
    NOT_AUTHORISED,
    NOT_FOUND,
    WRONG_LENGTH,
    refusal,
    require_ok,
)
from protocol.errors import InlayError

_CONTENT, _TAG_LIST = 0x53, 0x5C
_WARNING: Final = 0x62
_CERTIFICATE, _CERTIFICATE_INFO, _ERROR_DETECTION = 0x70, 0x71, 0xFE
_PACKED: Final = 0x81
"""CertInfo of a packed certificate: 01; before SP 800-73-3 some have written 80."""
_ZLIB_MARK: Final = bytes.fromhex("0100")
"""Some minidrivers pack with zlib behind this mark and the length, two bytes, the lower one first."""
_SAID_BY_CARD: Final = frozenset({"card_feature_missing", "card_management_needed", "card_refused"})
"""Causes by which a card that is there has not written an object."""
_NO_PLACE: Final = frozenset({"6A81", "6A82", "6A86", "6A88", "6B00"})
MAX_CERTIFICATE: Final = 16_384
"""What a compressed certificate may grow to: a bomb is refused before it grows."""

_FASC_N, _GUID, _EXPIRY, _SIGNATURE = 0x30, 0x34, 0x35, 0x3E
GUID_BYTES: Final = 16
_NON_FEDERAL: Final = bytes.fromhex("D4E739DA739CED39CE739D836858210842108421C84210C3EB")
"""FASC-N of a card that no federal agency has issued (SP 800-73pt1-5, section 3.1.2: agency code 9999)."""
_CCC_FIELDS: Final = bytes.fromhex("F10121F20121F300F40100F50110F600F700FA00FB00FC00FD00FE00")
_CARD_IDENTIFIER: Final = bytes.fromhex("A000000116FF02")


@dataclass(frozen=True, slots=True)
class Chuid:
    """Card holder unique identifier.

    Attributes:
        guid: 16 bytes: who the card is; never the same on two cards, new with each issue.
        expires: last day.
        fasc_n: 25 bytes.
    """

    guid: bytes
    expires: datetime.date | None
    fasc_n: bytes = _NON_FEDERAL


@dataclass(frozen=True, slots=True)
class KeyHistory:
    """How many retired keys have their certificates on the card, and how many elsewhere."""

    on_card: int
    off_card: int
    url: str = ""


def read(card: Card, tag: int) -> bytes | None:
    """An object's content; None when it isn't there.

    Args:
        card: a selected card.
        tag: the object's.

    Raises:
        InlayError: ``card_pin_needed``, ``card_answer_malformed``, ``card_refused``, ``pcsc_…``.
    """
    command = Command(0xCB, 0x3F, 0xFF, tlv.encode(_TAG_LIST, _tag_bytes(tag)))
    answer = card.send(command)
    if answer.status in ABSENT:
        return None
    if answer.status == NOT_AUTHORISED:
        raise InlayError("card_pin_needed", command=command.name)
    warned = (
        answer.status >> 8 == _WARNING and answer.data
    )  # some do where less came than could have been asked for
    data = answer.data if warned else require_ok(command, answer)
    if not data:  # there are cards that know the object, and have nothing in it
        return None
    try:
        wrapped = DISCOVERY if tag == DISCOVERY and data[0] == DISCOVERY else _CONTENT
        content = tlv.only(data, wrapped)
    except tlv.TlvError:
        raise malformed(command) from None
    return content or None


def write(card: Card, tag: int, content: bytes) -> None:
    """Write an object that isn't empty.

    What was there is deleted only when the card has refused to write over it, and is written back when there is no
    room even then.

    Raises:
        InlayError: ``card_management_needed``, ``card_full``, ``card_object_lost``, ``card_refused``, ``pcsc_…``.
    """
    if not _write_one_of(card, tag, [content], {}):
        raise InlayError("card_full", command="PUT DATA")


def has_no_place(error: InlayError) -> bool:
    """Whether writing an object failed for a card that doesn't know the object."""
    return error.code == "card_refused" and error.fields["status"] in _NO_PLACE


def delete(card: Card, tag: int) -> None:
    """Delete an object; harmless when it isn't there.

    Raises:
        InlayError: as `write`.
    """
    command, status = _put(card, tag, b"")
    if status in (OK, NOT_FOUND):
        return
    if status == NOT_AUTHORISED:
        raise InlayError("card_management_needed", command=command.name)
    if (
        status not in ABSENT or read(card, tag) is not None
    ):  # it may be the object, or that this one isn't deleted
        raise refusal(command, status)


# --- certificates ------------------------------------------------------------------------------


def read_certificate(card: Card, slot: int) -> bytes | None:
    """A slot's certificate, DER; None when there is none.

    Raises:
        InlayError: as `read`; ``card_answer_malformed`` when the object isn't a certificate's.
    """
    content = read(card, CERTIFICATES[slot])
    if content is None:
        return None
    der = certificate_in(content)
    if der is None:
        raise InlayError("card_answer_malformed", command="GET DATA")
    return der


def certificate_in(content: bytes) -> bytes | None:
    """The DER in a certificate object, unpacked where it is packed; None when there is none.

    What comes behind it counts for nothing: there are cards that fill the object up.
    """
    found = {item.tag: item.value for item in tlv.leading(content)}
    value, info = found.get(_CERTIFICATE, b""), found.get(_CERTIFICATE_INFO, b"")
    if not value:
        return None
    return _unpacked(value) if info and info[0] & _PACKED else value


def certificate_object(der: bytes, *, packed: bool = False) -> bytes:
    """The content of a certificate object (SP 800-73pt1-5, table 15)."""
    value = _packed(der) if packed else der
    info = bytes((1 if packed else 0,))
    return (
        tlv.encode(_CERTIFICATE, value)
        + tlv.encode(_CERTIFICATE_INFO, info)
        + tlv.encode(_ERROR_DETECTION, b"")
    )


def write_certificate(card: Card, slot: int, der: bytes, displaced: dict[int, bytes] | None = None) -> None:
    """Write a slot's certificate: as it is, packed when there is no room; over what was there as `write`.

    Args:
        card: a selected card.
        slot: the key's reference.
        der: the certificate.
        displaced: objects that were deleted for others, by their tags: the same one again for a card that was torn
            out in between, so that what it had is put back even then.

    Raises:
        InlayError: ``card_slot_missing``, ``card_object_too_large``: what was there is there; ``card_object_lost``: it
            isn't; ``card_management_needed``, ``card_refused``, ``pcsc_…``.
    """
    forms = [certificate_object(der), certificate_object(der, packed=True)]
    try:
        written = _write_one_of(card, CERTIFICATES[slot], forms, {} if displaced is None else displaced)
    except InlayError as error:
        if has_no_place(error):
            raise InlayError("card_slot_missing", slot=slot_name(slot)) from None
        raise
    if not written:
        raise InlayError("card_object_too_large", size=len(der))


def _write_one_of(card: Card, tag: int, forms: list[bytes], displaced: dict[int, bytes]) -> bool:
    """Write the first form that fits; False when none does, and then what was there before is there.

    Deleting comes last, and with what is deleted at hand: cards that take a longer object only where there is none
    want it, and others (many applets on JavaCards) free nothing by it.
    """
    if _fits(card, tag, forms):
        displaced.pop(tag, None)
        return True
    before = read(card, tag)
    if before is not None:
        displaced[tag] = before
        delete(card, tag)
    elif tag not in displaced:
        return False
    try:
        fits = before is not None and _fits(card, tag, forms)
    except InlayError as error:
        if error.code in _SAID_BY_CARD:
            _put_back(card, tag, displaced)
        raise
    if fits:
        displaced.pop(tag)
    else:
        _put_back(card, tag, displaced)
    return fits


def _put_back(card: Card, tag: int, displaced: dict[int, bytes]) -> None:
    """Write what was deleted, packed where it fits only so.

    Raises:
        InlayError: ``card_object_lost``.
    """
    content = displaced[tag]
    der = certificate_in(content)
    forms = [content] if der is None else [content, certificate_object(der, packed=True)]
    if not any(_put(card, tag, form)[1] == OK for form in forms):
        raise InlayError("card_object_lost", command="PUT DATA", size=len(content))
    displaced.pop(tag)


def _fits(card: Card, tag: int, forms: list[bytes]) -> bool:
    for content in forms:
        command, status = _put(card, tag, content)
        if status == OK:
            return True
        if status == NOT_AUTHORISED:
            raise InlayError("card_management_needed", command=command.name)
        if status == NO_FUNCTION:  # every card has the command: it is the object that it doesn't know
            raise InlayError("card_refused", command=command.name, status=f"{status:04X}")
        if status not in (NO_ROOM, WRONG_LENGTH):
            raise refusal(command, status)
    return False


def _packed(der: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return packer.compress(der) + packer.flush()


def _unpacked(value: bytes) -> bytes | None:
    """What is packed by gzip, as the standard has it, or by zlib."""
    size = None
    if value.startswith(_ZLIB_MARK):
        size, value = int.from_bytes(value[2:4], "little"), value[4:]
    unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS)  # the header tells which of the two
    try:
        der = unpacker.decompress(value, MAX_CERTIFICATE)
    except zlib.error:
        return None
    whole = unpacker.eof and not unpacker.unconsumed_tail and size in (None, len(der))
    return der if whole else None


# --- who the card is ---------------------------------------------------------------------------


def read_chuid(card: Card) -> Chuid | None:
    """The CHUID; None when there is none, or none with a GUID.

    Raises:
        InlayError: as `read`.
    """
    content = read(card, CHUID)
    return None if content is None else chuid_in(content)


def chuid_in(content: bytes) -> Chuid | None:
    """The CHUID in the content of its object; None when it has no GUID."""
    try:
        found = {item.tag: item.value for item in tlv.parse(content)}
    except tlv.TlvError:
        return None
    guid = found.get(_GUID, b"")
    if len(guid) != GUID_BYTES:
        return None
    try:
        expires = datetime.datetime.strptime(found[_EXPIRY].decode("ascii"), "%Y%m%d").date()
    except (KeyError, ValueError):
        expires = None
    return Chuid(guid, expires, found.get(_FASC_N, _NON_FEDERAL))


def fresh_chuid(expires: datetime.date, before: Chuid | None = None) -> Chuid:
    """A CHUID with a new GUID (RFC 4122, version 4), so that no program takes the card for what it was."""
    guid = bytearray(os.urandom(GUID_BYTES))
    guid[6], guid[8] = guid[6] & 0x0F | 0x40, guid[8] & 0x3F | 0x80
    return Chuid(bytes(guid), expires, _NON_FEDERAL if before is None else before.fasc_n)


def write_chuid(card: Card, chuid: Chuid) -> None:
    """Write the CHUID, unsigned (SP 800-73pt1-5, table 9; the signature is for federal cards).

    Raises:
        InlayError: as `write`.
    """
    expires = chuid.expires.strftime("%Y%m%d") if chuid.expires is not None else "20991231"
    fields = ((_FASC_N, chuid.fasc_n), (_GUID, chuid.guid), (_EXPIRY, expires.encode()), (_SIGNATURE, b""))
    content = b"".join(tlv.encode(tag, value) for tag, value in fields)
    write(card, CHUID, content + tlv.encode(_ERROR_DETECTION, b""))


def write_ccc(card: Card) -> None:
    """Write a card capability container that says no more than that there is one (table 8).

    A card that has no place for it goes without.

    Raises:
        InlayError: as `write`.
    """
    identifier = _CARD_IDENTIFIER + os.urandom(14)
    try:
        write(card, CCC, tlv.encode(0xF0, identifier) + _CCC_FIELDS)
    except InlayError as error:
        if not has_no_place(error):
            raise


def read_pin_usage(card: Card) -> bytes | None:
    """PIN usage policy of the discovery object, 2 bytes (section 3.3.2); None when the card has none.

    Raises:
        InlayError: as `read`.
    """
    content = read(card, DISCOVERY)
    try:
        return None if content is None else tlv.find(content, 0x5F2F)
    except tlv.TlvError:
        raise InlayError("card_answer_malformed", command="GET DATA") from None


def read_key_history(card: Card) -> KeyHistory | None:
    """The key history object (section 3.3.3); None when there is none.

    Raises:
        InlayError: as `read`.
    """
    content = read(card, KEY_HISTORY)
    if content is None:
        return None
    try:
        found = {item.tag: item.value for item in tlv.parse(content)}
        return KeyHistory(found[0xC1][0], found[0xC2][0], found.get(0xF3, b"").decode("ascii"))
    except (tlv.TlvError, KeyError, IndexError, UnicodeDecodeError):
        raise InlayError("card_answer_malformed", command="GET DATA") from None


def write_key_history(card: Card, history: KeyHistory) -> None:
    """Write the key history object.

    Raises:
        InlayError: as `write`.
    """
    counts = tlv.encode(0xC1, bytes((history.on_card,))) + tlv.encode(0xC2, bytes((history.off_card,)))
    url = tlv.encode(0xF3, history.url.encode("ascii")) if history.url else b""
    write(card, KEY_HISTORY, counts + url + tlv.encode(_ERROR_DETECTION, b""))


def _put(card: Card, tag: int, content: bytes) -> tuple[Command, int]:
    data = tlv.encode(_TAG_LIST, _tag_bytes(tag)) + tlv.encode(_CONTENT, content)
    command = Command(0xDB, 0x3F, 0xFF, data, answer=False)
    return command, card.send(command).status


def _tag_bytes(tag: int) -> bytes:
    return tag.to_bytes((tag.bit_length() + 7) // 8, "big")

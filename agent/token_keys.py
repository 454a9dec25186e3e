"""Where an order's keys are on a token: which ids (``CKA_ID``) its objects have, and which of them are the old ones.

A PKCS#11 token holds any number of keys, so an order's new ones stand beside the old ones until they are proved. The
id says for which key reference (``9A`` …) an object is, and which order made it: one byte of the reference, seven of
the order. What another program has put on the token has other ids, and is never touched.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from cryptography import x509

from agent.certificates import UNREADABLE
from protocol.errors import InlayError

if TYPE_CHECKING:
    import datetime
    from collections.abc import Collection

    from agent.pcsc.pkcs11 import Driver, Use
    from agent.pcsc.public_keys import PublicKey

_ID_BYTES: Final = 8
_HALF_THERE: Final = frozenset({"card_key_missing", "card_answer_malformed"})
RETIRED: Final = tuple(f"{number:02X}" for number in range(0x82, 0x96))
"""References of earlier encryption keys (SP 800-73pt1-5, table 4b)."""
_SLOT: Final = re.compile(r"9[ACDE]|8[2-9A-F]|9[0-5]")
_PIV_BY_OPENSC: Final = {"9A": b"\x01", "9C": b"\x02", "9D": b"\x03", "9E": b"\x04"}
"""Ids that OpenSC's module shows for the keys of a PIV card: such a token has no others."""


def new_id(slot: str, jti: str) -> bytes:
    """The id of what an order makes for a key reference."""
    return bytes.fromhex(slot) + hashlib.sha256(jti.encode()).digest()[: _ID_BYTES - 1]


def is_for(key: bytes, slot: str) -> bool:
    """Whether an id is one of ours, of any order, for a key reference."""
    return len(key) == _ID_BYTES and key[:1] == bytes.fromhex(slot)


def slot_of(key: bytes) -> str | None:
    """The key reference that an id stands for, by whatever order it was made; None for what others have put there."""
    for slot, shown in _PIV_BY_OPENSC.items():
        if key == shown:
            return slot
    slot = key[:1].hex().upper()
    return slot if len(key) == _ID_BYTES and _SLOT.fullmatch(slot) else None


def use_of(slot: str, algorithm: str) -> Use:
    """What a key is for, by its reference: 9D and the retired ones decrypt, all others sign."""
    if slot in ("9A", "9C", "9E"):
        return "sign"
    return "both" if algorithm.startswith("RSA-") else "decrypt"


async def present_id(driver: Driver, slot: str) -> bytes:
    """The id of the key that a token has for a reference.

    An order that was interrupted may have left a second one, with a certificate that was never used: it is the newer
    one, for an order that came to its end leaves no older one.

    Raises:
        InlayError: ``card_key_missing``.
    """
    ids = {item.key for item in await driver.objects() if item.kind == "private key"}
    ours = sorted(key for key in ids if is_for(key, slot))
    if not ours and _PIV_BY_OPENSC.get(slot) in ids:
        return _PIV_BY_OPENSC[slot]
    ages: list[tuple[datetime.datetime, bytes]] = []
    for key in ours:
        ages += [(day, key) for day in map(_begins, await driver.certificates(key)) if day is not None]
    if ages:
        return min(ages)[1]
    if len(ours) != 1:
        raise InlayError("card_key_missing", slot=slot)
    return ours[0]


async def id_of(driver: Driver, slots: Collection[str], public: PublicKey) -> bytes | None:
    """The id of one of ours, for any of these references, with this public key; None: the token hasn't got it."""
    ids = {item.key for item in await driver.objects() if item.kind == "private key"}
    for key in sorted(ids):
        if slot_of(key) in slots and len(key) == _ID_BYTES:
            try:
                if await driver.public_key(key) == public:
                    return key
            except InlayError as error:
                if error.code not in _HALF_THERE:
                    raise
    return None


async def remove_all(driver: Driver, slots: Collection[str]) -> None:
    """Remove every key and certificate that is one of ours for any of these references."""
    for key in {item.key for item in await driver.objects()}:
        if any(is_for(key, slot) for slot in slots):
            await driver.delete(key)


async def remove_torn(driver: Driver, slots: Collection[str], used: Collection[bytes]) -> None:
    """Remove keys of ours that an interrupted order has left for these references without a certificate."""
    found = await driver.objects()
    whole = {item.key for item in found if item.kind == "certificate"}
    for key in {item.key for item in found} - whole - set(used):
        if any(is_for(key, slot) for slot in slots):
            await driver.delete(key)


async def remove_others(
    driver: Driver, slot: str, key: bytes, certificate: bytes, used: Collection[bytes] = ()
) -> None:
    """Remove what is for a reference and not the key with this id and this certificate.

    Args:
        driver: the module, with the session open.
        slot: the reference.
        key: the id.
        certificate: what it has.
        used: ids that stay, whatever they were made for.

    Raises:
        InlayError: ``card_check_failed``: that certificate isn't the one that is left.
    """
    for other in {item.key for item in await driver.objects()} - {key} - set(used):
        if is_for(other, slot):
            await driver.delete(other)
    await driver.delete_certificates(key, set(await driver.certificates(key)) - {certificate})
    if await driver.certificates(key) != [certificate]:
        raise InlayError("card_check_failed", slot=slot)


def _begins(der: bytes) -> datetime.datetime | None:
    try:
        return x509.load_der_x509_certificate(der).not_valid_before_utc
    except UNREADABLE:
        return None

"""*Read card* by the driver *pkcs11*: what a token tells without a PIN, through the module that the card map names."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from agent import token_keys
from agent.pcsc.pkcs11 import Driver
from protocol.errors import InlayError
from protocol.messages import CardReading, CertificateOnCard
from protocol.tokens import token_guid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.card_map import CardKind
    from agent.pcsc.pkcs11_tokens import Token, Tries

ROOM: Final = 30_000
"""Bytes of certificates for which there is room in a message; see ``read_card``."""
_LONGEST: Final = 12_000
_MOST: Final = 24
_PAUSES: Final = (0.25, 0.5, 1.0)
"""Seconds; a module may show a card later than PC/SC does."""
_SERIAL: Final = re.compile(r"[!-~]([ -~]{0,14}[!-~])?")
_LEFT: Final[dict[Tries, int | None]] = {"blocked": 0, "last": 1, "few": None, "enough": None}
"""PKCS#11 tells no numbers but these."""


async def read_token(kind: CardKind) -> CardReading:
    """Read the one card that is there of a module.

    Args:
        kind: its entry of the card map, with a module.

    Raises:
        InlayError: ``pkcs11_several_cards``: a module doesn't tell which card is in which reader;
            ``pcsc_card_removed``, ``pkcs11_…``.
    """
    if kind.module is None:
        raise InlayError("pkcs11_no_module")
    driver = Driver(kind.module)
    try:
        tokens = _of_one_card(driver.module, await _shown(driver))
        certificates, omitted = await _certificates(driver, tokens)
    finally:
        await driver.close()
    token = tokens[0]
    serial = token.serial if _SERIAL.fullmatch(token.serial) else None
    return CardReading(
        kind=kind.name[:200],
        guid=None if serial is None else token_guid(serial),
        token=serial,
        pin_tries=_LEFT[token.pin],
        puk_tries=_LEFT[token.puk],
        certificates=certificates,
        omitted=min(omitted, _MOST),
    )


async def _shown(driver: Driver) -> Sequence[Token]:
    """The tokens that a module shows; one that doesn't see the card yet is asked again, in a new process."""
    for pause in _PAUSES:
        if tokens := await driver.tokens():
            return tokens
        await driver.close()
        await asyncio.sleep(pause)
    return await driver.tokens()


def _of_one_card(module: str, tokens: Sequence[Token]) -> Sequence[Token]:
    """The tokens of one card: some modules show one for each of its PINs, and some show a blank one beside."""
    found = [token for token in tokens if token.initialised] or list(tokens)
    if not found:
        raise InlayError("pcsc_card_removed")
    if len({(token.serial, token.manufacturer) for token in found}) > 1:
        raise InlayError("pkcs11_several_cards", module=module)
    return found


async def _certificates(driver: Driver, tokens: Sequence[Token]) -> tuple[list[CertificateOnCard], int]:
    """Those that stand under a key reference, as many as there is room for, and how many others there are."""
    found: list[CertificateOnCard] = []
    omitted, room = 0, ROOM
    for token in tokens:
        if not token.initialised:
            continue
        await driver.open(token)
        ids = {item.key for item in await driver.objects() if item.kind == "certificate"}
        for key in sorted(ids):
            slot = token_keys.slot_of(key)
            for der in await driver.certificates(key):
                if slot is None or len(found) == _MOST or not 4 <= len(der) <= min(room, _LONGEST):
                    omitted += 1
                    continue
                room -= len(der)
                found.append(CertificateOnCard(slot=slot, certificate=der))
    return found, omitted

"""Attestation: a card's signed statement of where a key comes from, fetched from the card as it is.

Yubico's form: ATTEST answers a certificate of the slot's key, signed by the attestation key; its certificate lies in
object 5FFF01. The portal judges both (``portal.ca.attestation``): what an agent says of them would be worth nothing.
"""

from __future__ import annotations

from agent.pcsc import piv_select
from agent.pcsc.apdu import Card, Command
from agent.pcsc.piv_names import ATTESTATION, slot_name
from agent.pcsc.piv_objects import read_certificate
from agent.pcsc.status import NO_REFERENCE, NOT_FOUND, PARAMETERS, WRONG_DATA, require_ok
from protocol.errors import InlayError


def statement(card: Card, slot: int) -> bytes:
    """ATTEST: what the card states of a key that was made on it, DER; nothing is verified.

    Raises:
        InlayError: ``card_feature_missing`` where the card can't, ``card_key_missing`` when the key wasn't made on the
            card or isn't there, ``card_refused``, ``pcsc_…``.
    """
    command = Command(0xF9, slot, 0x00)
    answer = card.send(command)
    if answer.status in PARAMETERS | {NO_REFERENCE, NOT_FOUND, WRONG_DATA}:
        raise InlayError("card_key_missing", slot=slot_name(slot))
    return require_ok(command, answer)


def issuer(card: Card) -> bytes | None:
    """The certificate of the card's attestation key; None where the card can't attest, or has none. Changes nothing.

    Raises:
        InlayError: ``pcsc_…``, ``card_refused``.
    """
    if not piv_select.can_attest(card):
        return None
    try:
        return read_certificate(card, ATTESTATION)
    except InlayError as error:
        if error.code != "card_answer_malformed":
            raise
        return None  # what can't be read proves nothing

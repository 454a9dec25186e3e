"""Make a virtual card and fill it, in this process: what the order *create virtual card* is built from.

Everything but `create` goes through the card's own commands, as any host would send them, so that
what is proved here is what other programs will meet. The order of things::

    store = CardStore(folder, device_secret)
    card = create(store, label="Virtual smart card a@b.c", pin=pin, puk=puk)    # being_made
    generate(card, 0x9A, Algorithm.RSA_2048)                                     # no PIN
    certificate_request(card, 0x9A, "CN=A", pin)                                 # PKCS#10
    import_key(card, 0x9D, pkcs8)                                                # no PIN
    write_certificate(card, 0x9A, der); read_certificate(card, 0x9A)
    sign(card, 0x9A, message, pin); decrypt_oaep(...); agree(...)                # the proofs
    activate(card)                                                               # after `finished`
    store.delete(card.card_id)                                                   # or undo

All functions block (Argon2id, making RSA keys, the disk): call them by `asyncio.to_thread`. A PIN is a
`bytearray` that belongs to the caller, who wipes it; nothing here keeps or logs it.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import secrets
from typing import Final

from agent.vsc import objects, pkcs10, slot_keys, tlv
from agent.vsc.apdu import StatusWord
from agent.vsc.attestation import with_attestation
from agent.vsc.card import VirtualCard, pad
from agent.vsc.card_details import CardDetails
from agent.vsc.commands import (
    GENERAL_AUTHENTICATE,
    GENERATE,
    GET_DATA,
    IMPORT_KEY,
    MANAGEMENT,
    PIV_AID,
    PUT_DATA,
    RSA_BITS,
    SELECT,
    SLOTS,
    VERIFY,
    Algorithm,
    Reference,
)
from agent.vsc.key_import import import_data
from agent.vsc.keys_software import SoftwareKeys
from agent.vsc.rsa_padding import oaep_plain, pkcs1_block
from agent.vsc.slot_keys import PublicKey
from agent.vsc.state import Argon2Cost, Lifecycle, PersistentState
from agent.vsc.store import CardStore, new_card_id
from protocol.errors import InlayError

_GUID_BYTES: Final = 16
_VALIDITY: Final = datetime.timedelta(days=3653)


class CardRefused(InlayError):
    """The card answered a command with something other than 9000.

    The code is ``card_write_failed`` when it could not save, ``internal`` otherwise: what is sent
    here is well formed, so that only a fault, or a wrong PIN, gets another answer.

    Attributes:
        instruction: INS of the command.
        status: the status word.
    """

    def __init__(self, instruction: int, status: int) -> None:
        if status == StatusWord.STORAGE_FAILED:
            super().__init__("card_write_failed", cause="EIO")
        else:
            super().__init__("internal")
        self.instruction = instruction
        self.status = status

    @property
    def tries_left(self) -> int | None:
        """PIN tries left when the PIN was wrong, 0 when blocked; None for other answers."""
        if self.status == StatusWord.BLOCKED:
            return 0
        return self.status & 0x0F if self.status & 0xFFF0 == StatusWord.TRIES_LEFT else None


def create(
    store: CardStore,
    *,
    label: str,
    pin: bytearray,
    puk: bytearray,
    card_id: str | None = None,
    guid: bytes | None = None,
    expires: datetime.date | None = None,
    cost: Argon2Cost | None = None,
) -> VirtualCard:
    """Make a card without keys and save it as *being made*.

    Args:
        store: where to.
        label: the profile's name, 1 to 200 characters.
        pin: 6 to 8 printable ASCII bytes.
        puk: 6 to 8 printable ASCII bytes; see `random_puk`.
        card_id: its name in the store, 32 hexadecimal digits; random by default.
        guid: GUID of the CHUID, 16 bytes; random by default, and never another card's.
        expires: the CHUID's date; ten years from today by default.
        cost: Argon2id's parameters; RFC 9106's second recommendation by default.

    Returns:
        The card, powered and without anybody logged in.

    Raises:
        ValueError: PIN, PUK or GUID of a wrong form.
        CardNotSaved: the disk refused.
    """
    guid = guid or os.urandom(_GUID_BYTES)
    if len(guid) != _GUID_BYTES:
        raise ValueError("GUID of a wrong length")
    card_id = card_id or new_card_id()
    cost = cost or Argon2Cost()
    keys = SoftwareKeys(store.secret)
    public, pin_state, puk_state = keys.new_card(card_id, pad(pin), pad(puk), cost)
    state = PersistentState(
        card_id=card_id,
        generation=0,
        lifecycle=Lifecycle.BEING_MADE,
        label=label,
        serial=(1 + secrets.randbelow(0x7FFF_FFFF)).to_bytes(4, "big"),
        guid=guid,
        cost=cost,
        public=public,
        pin=pin_state,
        puk=puk_state,
        management=keys.new_management_key(card_id),
        objects=_first_objects(guid, expires),
        slots={},
    )
    state = with_attestation(state, keys)
    store.create(state)
    return VirtualCard(store, state)


def _first_objects(guid: bytes, expires: datetime.date | None) -> dict[int, bytes]:
    """What a card has before it has any key."""
    expires = expires or datetime.datetime.now(datetime.UTC).date() + _VALIDITY
    return {
        objects.CHUID: objects.chuid(guid, expires),
        objects.CCC: objects.capabilities(os.urandom(14)),
        objects.KEY_HISTORY: objects.key_history(),
    }


def random_puk() -> bytearray:
    """Draw a PUK: 8 random digits."""
    return bytearray(f"{secrets.randbelow(10**8):08d}", "ascii")


def generate(card: VirtualCard, slot: int, algorithm: Algorithm) -> PublicKey:
    """Make a key in a slot, with the slot's own PIN policy. A key that was there is gone.

    A third of a second on average for RSA-3072, more than one for RSA-4096.

    Raises:
        ValueError: no such slot.
        CardRefused: see there.
    """
    _require_slot(slot)
    _authenticate_management(card)
    template = tlv.encode(0xAC, tlv.encode(0x80, bytes([algorithm])))
    _send(card, GENERATE, 0x00, slot, template)
    return public_key(card, slot)


def import_key(card: VirtualCard, slot: int, pkcs8_der: bytes | bytearray) -> PublicKey:
    """Put a key that was made elsewhere into a slot. A key that was there is gone.

    Args:
        card: the card.
        slot: key reference.
        pkcs8_der: PrivateKeyInfo of a key of one of the card's algorithms; RSA with the exponent 65537.

    Raises:
        ValueError: no such slot.
        InlayError: ``recovered_key_invalid``, it is no such key.
        CardRefused: see there.
    """
    _require_slot(slot)
    algorithm, data = import_data(slot, bytes(pkcs8_der))
    _authenticate_management(card)
    _send(card, IMPORT_KEY, algorithm, slot, data)
    return public_key(card, slot)


def write_certificate(card: VirtualCard, slot: int, der: bytes) -> None:
    """Write a slot's certificate in place of the one that was there.

    Raises:
        ValueError: no such slot.
        CardRefused: see there; larger than some 12,000 bytes.
    """
    _require_slot(slot)
    _authenticate_management(card)
    value = tlv.encode(0x53, objects.certificate_object(der))
    _send(card, PUT_DATA, 0x3F, 0xFF, _tag_list(objects.CERTIFICATE_TAGS[slot]) + value)


def extend(card: VirtualCard, expires: datetime.date) -> None:
    """Write another last day into the CHUID; its GUID stays, so it is the same card to every program.

    Raises:
        CardRefused: see there.
    """
    _authenticate_management(card)
    value = tlv.encode(0x53, objects.chuid(card.guid, expires))
    _send(card, PUT_DATA, 0x3F, 0xFF, _tag_list(objects.CHUID) + value)


def read_certificate(card: VirtualCard, slot: int) -> bytes:
    """Read a slot's certificate back, DER.

    Raises:
        ValueError: no such slot.
        InlayError: ``card_check_failed``, there is none.
    """
    _require_slot(slot)
    _select(card)
    try:
        answer = _send(card, GET_DATA, 0x3F, 0xFF, _tag_list(objects.CERTIFICATE_TAGS[slot]))
        der = objects.certificate_in(tlv.parse_one(answer, 0x53))
    except (CardRefused, tlv.TlvError) as error:
        raise InlayError("card_check_failed", slot=f"{slot:02X}") from error
    if der is None:
        raise InlayError("card_check_failed", slot=f"{slot:02X}")
    return der


def public_key(card: VirtualCard, slot: int) -> PublicKey:
    """The public half of a slot's key.

    Raises:
        ValueError: there is no key in that slot.
    """
    for entry in card.details().slots:
        if entry.slot == slot:
            return slot_keys.load_public(entry.public)
    raise ValueError("no key in this slot")


def sign(card: VirtualCard, slot: int, message: bytes, pin: bytearray) -> bytes:
    """Sign SHA-256 of a message: RSASSA-PKCS1-v1_5, or ECDSA (DER). Ed25519 signs the message itself.

    Raises:
        CardRefused: wrong PIN (`tries_left` says so), or a key that only agrees.
    """
    if _algorithm(card, slot) is Algorithm.ED25519:
        return _use(card, slot, 0x81, message, pin)
    return sign_digest(card, slot, hashlib.sha256(message).digest(), pin)


def sign_digest(card: VirtualCard, slot: int, digest: bytes, pin: bytearray) -> bytes:
    """Sign a SHA-256 digest: RSASSA-PKCS1-v1_5, or ECDSA (DER).

    Raises:
        CardRefused: wrong PIN (`tries_left` says so), or a key that doesn't sign digests.
    """
    algorithm = _algorithm(card, slot)
    block = pkcs1_block(digest, RSA_BITS[algorithm] // 8) if algorithm in RSA_BITS else digest
    return _use(card, slot, 0x81, block, pin)


def decrypt(card: VirtualCard, slot: int, ciphertext: bytes, pin: bytearray) -> bytes:
    """The bare RSA operation on a ciphertext as long as the modulus; the padded block, as long again.

    Raises:
        CardRefused: wrong PIN, no RSA key, or a ciphertext of another length.
    """
    return _use(card, slot, 0x81, ciphertext, pin)


def decrypt_oaep(card: VirtualCard, slot: int, ciphertext: bytes, pin: bytearray) -> bytes:
    """Decrypt RSAES-OAEP with SHA-256, MGF1 with SHA-256 and an empty label (RFC 8017, section 7.1.2).

    Raises:
        InlayError: ``card_check_failed``, it wasn't encrypted to this key.
        CardRefused: as `decrypt`.
    """
    plain = oaep_plain(decrypt(card, slot, ciphertext, pin))
    if plain is None:
        raise InlayError("card_check_failed", slot=f"{slot:02X}")
    return plain


def agree(card: VirtualCard, slot: int, point: bytes, pin: bytearray) -> bytes:
    """ECDH with an uncompressed point (P-256: 65 bytes), or X25519 with 32 bytes; the shared secret.

    Raises:
        CardRefused: wrong PIN, no EC key that agrees, or no point of the curve.
    """
    return _use(card, slot, 0x85, point, pin)


def certificate_request(card: VirtualCard, slot: int, subject: str, pin: bytearray) -> bytes:
    """Build a PKCS#10 request (RFC 2986) signed by a slot's key with SHA-256; DER.

    Args:
        card: the card.
        slot: a key that signs.
        subject: RFC 4514 text.
        pin: the card's PIN.

    Raises:
        ValueError: the subject is none, or there is no key.
        CardRefused: as `sign`.
    """
    information = pkcs10.information(subject, public_key(card, slot))
    return pkcs10.request(information, _algorithm(card, slot), sign(card, slot, information, pin))


def activate(card: VirtualCard) -> CardDetails:
    """Log everybody out and mark the card active: it may be attached from now on.

    Raises:
        CardNotSaved: the disk refused.
    """
    card.reset()
    card.activate()
    return card.details()


def _use(card: VirtualCard, slot: int, tag: int, data: bytes, pin: bytearray) -> bytes:
    """VERIFY, one private key operation, log out."""
    _require_slot(slot)
    algorithm = _algorithm(card, slot)
    template = tlv.encode(0x7C, tlv.encode(0x82, b"") + tlv.encode(tag, data))
    _select(card)
    _send(card, VERIFY, 0x00, Reference.PIN, pad(pin))
    try:
        answer = _send(card, GENERAL_AUTHENTICATE, algorithm, slot, template)
    finally:
        _send(card, VERIFY, 0xFF, Reference.PIN, b"")
    return tlv.parse_one(tlv.parse_one(answer, 0x7C), 0x82)


def _authenticate_management(card: VirtualCard) -> None:
    """Prove the management key: the agent makes the card, so it may ask it for the answer."""
    _select(card)
    algorithm = card.management_algorithm
    ask = tlv.encode(0x7C, tlv.encode(0x81, b""))
    answer = _send(card, GENERAL_AUTHENTICATE, algorithm, MANAGEMENT, ask)
    challenge = tlv.parse_one(tlv.parse_one(answer, 0x7C), 0x81)
    response = tlv.encode(0x7C, tlv.encode(0x82, card.answer_management_challenge(challenge)))
    _send(card, GENERAL_AUTHENTICATE, algorithm, MANAGEMENT, response)


def _select(card: VirtualCard) -> None:
    _send(card, SELECT, 0x04, 0x00, PIV_AID)


def _send(card: VirtualCard, instruction: int, p1: int, p2: int, data: bytes) -> bytes:
    """Send a command in extended length; the data of an answer of 9000."""
    length = b"\x00" + len(data).to_bytes(2, "big") + data if data else b"\x00"
    answer = card.transmit(bytes((0x00, instruction, p1, p2)) + length + b"\x00\x00")
    status = int.from_bytes(answer[-2:], "big")
    if status != StatusWord.OK:
        raise CardRefused(instruction, status)
    return answer[:-2]


def _algorithm(card: VirtualCard, slot: int) -> Algorithm:
    found = slot_keys.algorithm_of(public_key(card, slot))
    if found is None:
        raise TypeError("no algorithm of the card")
    return found


def _tag_list(tag: int) -> bytes:
    return tlv.encode(0x5C, tag.to_bytes(3, "big"))


def _require_slot(slot: int) -> None:
    if slot not in SLOTS:
        raise ValueError("no such slot")

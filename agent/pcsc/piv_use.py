"""The use of a card's keys: sign, decrypt, agree (SP 800-73pt2-5, section 3.2.4 and appendix A.2 to A.4)."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from agent.pcsc import tlv
from agent.pcsc.apdu import Card, Command, malformed
from agent.pcsc.piv_names import RSA_BITS, KeyAlgorithm, slot_name
from agent.pcsc.status import CONDITIONS, NO_REFERENCE, NOT_AUTHORISED, PARAMETERS, WRONG_DATA, require_ok
from protocol.errors import InlayError

_TEMPLATE, _CHALLENGE, _RESPONSE, _EXPONENTIATION = 0x7C, 0x81, 0x82, 0x85
_CURVE_BYTES: Final = {KeyAlgorithm.P_256: 32, KeyAlgorithm.P_384: 48}
_LONGEST: Final = max(RSA_BITS.values()) // 8
"""Bytes that the largest key answers with: what is longer is none, and would fill the messages that carry it."""
_NO_KEY: Final = PARAMETERS | {CONDITIONS, NO_REFERENCE, WRONG_DATA}
"""What cards say of a slot that is empty, or has a key of another kind; some, that the data is wrong for it."""
_SHA256_INFO: Final = bytes.fromhex("3031300D060960864801650304020105000420")


def sign_sha256(card: Card, slot: int, algorithm: KeyAlgorithm, message: bytes) -> bytes:
    """Sign SHA-256 of a message: RSASSA-PKCS1-v1_5, ECDSA (DER), or Ed25519 over the message itself.

    Raises:
        InlayError: ``card_pin_needed``, ``card_key_missing``, ``card_answer_malformed``, ``card_refused``, ``pcsc_…``.
    """
    if algorithm is KeyAlgorithm.ED25519:
        return use(card, slot, algorithm, message)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(message)
    return sign_digest(card, slot, algorithm, digest.finalize())


def sign_digest(card: Card, slot: int, algorithm: KeyAlgorithm, digest: bytes) -> bytes:
    """Sign a SHA-256 digest: RSASSA-PKCS1-v1_5, or ECDSA (DER).

    Raises:
        InlayError: as `sign_sha256`.
    """
    if algorithm in RSA_BITS:
        digest = _pkcs1(_SHA256_INFO + digest, RSA_BITS[algorithm] // 8)
    elif algorithm in _CURVE_BYTES:  # the same number, at the length that the standard has for the curve
        digest = digest.rjust(_CURVE_BYTES[algorithm], b"\0")
    return use(card, slot, algorithm, digest)


def use(card: Card, slot: int, algorithm: KeyAlgorithm, block: bytes) -> bytes:
    """The private operation on a block: RSA of the modulus' length (signing and decrypting), a hash, a message.

    Raises:
        InlayError: as `sign_sha256`.
    """
    command, result = _operate(card, slot, algorithm, _CHALLENGE, block)
    return _sized(command, result, RSA_BITS[algorithm] // 8) if algorithm in RSA_BITS else result


def agree(card: Card, slot: int, algorithm: KeyAlgorithm, point: bytes) -> bytes:
    """ECDH with another's point, uncompressed (X25519: 32 bytes); the shared secret.

    Raises:
        InlayError: as `sign_sha256`.
        ValueError: no point of the key's curve.
    """
    if algorithm in _CURVE_BYTES:
        curve = ec.SECP256R1() if algorithm is KeyAlgorithm.P_256 else ec.SECP384R1()
        ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
    command, result = _operate(card, slot, algorithm, _EXPONENTIATION, point)
    return _sized(command, result, _CURVE_BYTES[algorithm]) if algorithm in _CURVE_BYTES else result


def _operate(card: Card, slot: int, algorithm: KeyAlgorithm, tag: int, value: bytes) -> tuple[Command, bytes]:
    content = tlv.encode(_RESPONSE, b"") + tlv.encode(tag, value)
    command = Command(0x87, algorithm, slot, tlv.encode(_TEMPLATE, content))
    answer = card.send(command)
    if answer.status == NOT_AUTHORISED:
        raise InlayError("card_pin_needed", command=command.name)
    if answer.status in _NO_KEY:
        raise InlayError("card_key_missing", slot=slot_name(slot))
    data = require_ok(command, answer)
    try:
        result = tlv.find(tlv.only(data, _TEMPLATE), _RESPONSE)
    except tlv.TlvError:
        result = None
    if not result or len(result) > _LONGEST:
        raise malformed(command)
    return command, result


def _sized(command: Command, number: bytes, size: int) -> bytes:
    """A number as long as the key has it: some cards leave out leading zero bytes, some put one before."""
    found = number.lstrip(b"\0").rjust(size, b"\0")
    if len(found) != size:
        raise malformed(command)
    return found


def _pkcs1(value: bytes, size: int) -> bytes:
    """EMSA-PKCS1-v1_5 (RFC 8017, section 9.2)."""
    return b"\x00\x01" + b"\xff" * (size - len(value) - 3) + b"\x00" + value

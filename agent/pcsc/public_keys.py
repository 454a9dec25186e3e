"""Public keys as cards speak of them, and what a host prepares for a card's private key."""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils

from protocol.errors import InlayError

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

CURVES: Final[dict[str, ec.EllipticCurve]] = {
    "06082a8648ce3d030107": ec.SECP256R1(),
    "06052b81040022": ec.SECP384R1(),
}
"""Named curves as DER object identifiers (RFC 5480, 2.1.1.1)."""
_SHA256_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")
"""DigestInfo of SHA-256 (RFC 8017, 9.2)."""


def rsa_key(modulus: bytes, exponent: bytes) -> rsa.RSAPublicKey:
    """A key from its two numbers, big-endian.

    Raises:
        InlayError: ``card_answer_malformed``: they are no key.
    """
    try:
        return rsa.RSAPublicNumbers(
            int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")
        ).public_key()
    except ValueError:
        raise InlayError("card_answer_malformed", command="GET PUBLIC KEY") from None


def ec_key(curve: str, point: bytes) -> ec.EllipticCurvePublicKey:
    """A key from its curve (DER object identifier, hexadecimal) and point.

    Modules give the point bare or inside an OCTET STRING (PKCS#11 v3.1, 6.3.3): both are taken.

    Raises:
        InlayError: ``card_answer_malformed``: another curve, or no point of it.
    """
    known = CURVES.get(curve)
    if known is None:
        raise InlayError("card_answer_malformed", command="GET PUBLIC KEY")
    for candidate in (point, _unwrapped(point)):
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(known, candidate)
        except ValueError:
            continue
    raise InlayError("card_answer_malformed", command="GET PUBLIC KEY")


def to_sign(key: PublicKey, message: bytes) -> tuple[str, bytes]:
    """What a card signs for a message: mechanism (``rsa-pkcs1`` or ``ecdsa``) and data.

    RSA: DigestInfo of SHA-256, which the module or host pads. EC: the hash that fits the curve.
    """
    digest = hashlib.sha256
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size > 256:
        digest = hashlib.sha384
    return digest_to_sign(key, digest(message).digest())


def digest_to_sign(key: PublicKey, digest: bytes) -> tuple[str, bytes]:
    """What a card signs for a digest, with RSA a SHA-256 one: mechanism and data, as `to_sign`."""
    if isinstance(key, rsa.RSAPublicKey):
        return "rsa-pkcs1", _SHA256_INFO + digest
    return "ecdsa", digest


def ecdsa_der(raw: bytes) -> bytes:
    """An ECDSA signature r ‖ s as DER.

    Raises:
        InlayError: ``card_answer_malformed``: it is empty or of odd length.
    """
    if not raw or len(raw) % 2:
        raise InlayError("card_answer_malformed", command="SIGN")
    half = len(raw) // 2
    return utils.encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


def oaep_message(padded: bytes, size: int) -> bytes:
    """Take RSAES-OAEP padding off (RFC 8017, 7.1.2, SHA-256, no label): cards do the bare operation only.

    Faults are told apart by nothing: not by the error, and not by how far the check came.

    Args:
        padded: the card's answer; leading zeros may be missing.
        size: bytes of the modulus.

    Raises:
        InlayError: ``card_answer_malformed``: it isn't padded so.
    """
    block = padded.rjust(size, b"\0")
    length = hashlib.sha256().digest_size
    if len(block) != size or size < 2 * length + 2:
        raise InlayError("card_answer_malformed", command="DECRYPT")
    masked_seed, masked_data = block[1 : 1 + length], block[1 + length :]
    seed = _xor(masked_seed, _mask(masked_data, length))
    data = _xor(masked_data, _mask(seed, len(masked_data)))
    rest = data[length:]
    message = rest.lstrip(b"\0")
    fits = block[0] == 0
    fits &= data[:length] == hashlib.sha256(b"").digest()
    fits &= message[:1] == b"\x01"
    if not fits:
        raise InlayError("card_answer_malformed", command="DECRYPT")
    return message[1:]


def _mask(seed: bytes, length: int) -> bytes:
    """MGF1 with SHA-256 (RFC 8017, B.2.1)."""
    found = b""
    counter = 0
    while len(found) < length:
        found += hashlib.sha256(seed + counter.to_bytes(4, "big")).digest()
        counter += 1
    return found[:length]


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _unwrapped(point: bytes) -> bytes:
    if len(point) > 2 and point[0] == 0x04 and point[1] == len(point) - 2:
        return point[2:]
    if len(point) > 3 and point[:2] == b"\x04\x81" and point[2] == len(point) - 3:
        return point[3:]
    return point

"""A key that was made elsewhere, as IMPORT ASYMMETRIC KEY brings it on a card (Yubico's extension of PIV, INS FE)."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agent.vsc import slot_keys, tlv
from agent.vsc.commands import RSA_BITS, Algorithm
from protocol.errors import InlayError

_SCALAR_TAGS: Final = {Algorithm.ED25519: 0x07, Algorithm.X25519: 0x08}
_NIST_SCALAR: Final = 0x06


def import_data(slot: int, pkcs8: bytes) -> tuple[Algorithm, bytes]:
    """Algorithm and data field of the command.

    Args:
        slot: key reference, for the refusal.
        pkcs8: PrivateKeyInfo, DER.

    Raises:
        InlayError: ``recovered_key_invalid``: no key that a card takes; RSA with another exponent than 65537.
    """
    refusal = InlayError("recovered_key_invalid", slot=f"{slot:02X}")
    try:
        key = serialization.load_der_private_key(pkcs8, None)
    except (ValueError, TypeError) as error:
        raise refusal from error
    if not isinstance(key, slot_keys.PrivateKey):
        raise refusal
    algorithm = slot_keys.algorithm_of(key.public_key())
    if algorithm is None:
        raise refusal
    if not isinstance(key, rsa.RSAPrivateKey):
        return algorithm, tlv.encode(_SCALAR_TAGS.get(algorithm, _NIST_SCALAR), slot_keys.scalar(key))
    numbers, half = key.private_numbers(), RSA_BITS[algorithm] // 2
    if numbers.public_numbers.e != 65537 or max(numbers.p, numbers.q).bit_length() != half:
        raise refusal
    primes = ((0x01, numbers.p), (0x02, numbers.q))
    return algorithm, b"".join(tlv.encode(tag, prime.to_bytes(half // 8, "big")) for tag, prime in primes)

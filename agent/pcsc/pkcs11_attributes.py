"""A private key that was made elsewhere, and a serial number, as PKCS#11 attributes (v3.1, 6.1.3 and 6.3.4)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import keywrap, padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from agent.pcsc import public_keys
from agent.pcsc.pkcs11_tokens import AES_CBC_PAD
from protocol.errors import InlayError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes


def integer(value: int) -> bytes:
    """A DER INTEGER (X.690, 8.3)."""
    content = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return b"\x02" + bytes([len(content)]) + content


def of_key(private: object, key: bytes) -> tuple[str, dict[str, str], dict[str, str]]:
    """Algorithm, and PKCS#11 attributes of both halves of a key."""
    if isinstance(private, rsa.RSAPrivateKey):
        numbers = private.private_numbers()
        public = {
            "CKA_MODULUS": _hex(numbers.public_numbers.n),
            "CKA_PUBLIC_EXPONENT": _hex(numbers.public_numbers.e),
        }
        secret = public | {
            "CKA_PRIVATE_EXPONENT": _hex(numbers.d),
            "CKA_PRIME_1": _hex(numbers.p),
            "CKA_PRIME_2": _hex(numbers.q),
            "CKA_EXPONENT_1": _hex(numbers.dmp1),
            "CKA_EXPONENT_2": _hex(numbers.dmq1),
            "CKA_COEFFICIENT": _hex(numbers.iqmp),
        }
        return f"RSA-{private.key_size}", secret, public
    if isinstance(private, ec.EllipticCurvePrivateKey):
        for curve, known in public_keys.CURVES.items():
            if known.name == private.curve.name:
                point = private.public_key().public_bytes(
                    serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
                )
                public = {"CKA_EC_PARAMS": curve, "CKA_EC_POINT": (bytes([4, len(point)]) + point).hex()}
                size = (known.key_size + 7) // 8
                value = private.private_numbers().private_value.to_bytes(size, "big").hex()
                return f"P-{known.key_size}", {"CKA_EC_PARAMS": curve, "CKA_VALUE": value}, public
    raise InlayError("recovered_key_invalid", slot=key.hex().upper()[:2])


def wrapped(private: PrivateKeyTypes, mechanism: int) -> dict[str, str]:
    """A key's PKCS#8 wrapped for C_UnwrapKey, and the AES key for this once by which it is (v3.1, 5.18.4).

    Returns:
        ``wrapped``, ``wrapping`` and ``iv``, hexadecimal.
    """
    pkcs8 = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    wrapping, iv = secrets.token_bytes(32), b""
    if mechanism == AES_CBC_PAD:
        iv = secrets.token_bytes(16)
        padder, cipher = (
            padding.PKCS7(128).padder(),
            Cipher(algorithms.AES(wrapping), modes.CBC(iv)).encryptor(),
        )
        result = cipher.update(padder.update(pkcs8) + padder.finalize()) + cipher.finalize()
    else:
        result = keywrap.aes_key_wrap_with_padding(wrapping, pkcs8)
    return {"wrapped": result.hex(), "wrapping": wrapping.hex(), "iv": iv.hex()}


def _hex(number: int) -> str:
    return number.to_bytes((number.bit_length() + 7) // 8, "big").hex()

"""Keys of slots: making, taking over, and using them. What each algorithm can do stands here alone.

No sealing and no policy: `agent.vsc.keys_software` opens keys, `agent.vsc.applet_authenticate` says who may.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from agent.vsc import tlv
from agent.vsc.commands import RSA_BITS, Algorithm
from agent.vsc.key_port import UnusableInput

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey | X25519PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey | X25519PublicKey

CURVES: Final[dict[Algorithm, ec.EllipticCurve]] = {
    Algorithm.P_256: ec.SECP256R1(),
    Algorithm.P_384: ec.SECP384R1(),
}
_ECDSA: Final = {32: ec.ECDSA(Prehashed(hashes.SHA256())), 48: ec.ECDSA(Prehashed(hashes.SHA384()))}
_RSA_EXPONENT: Final = 65537
_LONGEST_DIGEST: Final = 64
_X25519_BYTES: Final = 32


def generate(algorithm: Algorithm) -> PrivateKey:
    """Make a key."""
    if algorithm in RSA_BITS:
        return rsa.generate_private_key(_RSA_EXPONENT, RSA_BITS[algorithm])
    if algorithm in CURVES:
        return ec.generate_private_key(CURVES[algorithm])
    return Ed25519PrivateKey.generate() if algorithm is Algorithm.ED25519 else X25519PrivateKey.generate()


def from_material(algorithm: Algorithm, material: tuple[bytes, ...]) -> PrivateKey:
    """Build a key from what IMPORT ASYMMETRIC KEY brings: see `commands.ImportKey`.

    Raises:
        UnusableInput: it is no key of that algorithm.
    """
    try:
        if algorithm in RSA_BITS:
            p, q = (int.from_bytes(part, "big") for part in material)
            return _rsa(RSA_BITS[algorithm], p, q)
        if algorithm in CURVES:
            return ec.derive_private_key(int.from_bytes(material[0], "big"), CURVES[algorithm])
        if algorithm is Algorithm.ED25519:
            return Ed25519PrivateKey.from_private_bytes(material[0])
        return X25519PrivateKey.from_private_bytes(material[0])
    except (ValueError, ZeroDivisionError) as error:
        raise UnusableInput from error


def algorithm_of(key: PublicKey) -> Algorithm | None:
    """The card's name of a key's algorithm; None when the card has none such."""
    if isinstance(key, rsa.RSAPublicKey):
        fitting = [algorithm for algorithm, bits in RSA_BITS.items() if bits == key.key_size]
        return fitting[0] if fitting else None
    if isinstance(key, ec.EllipticCurvePublicKey):
        named = [algorithm for algorithm, curve in CURVES.items() if curve.name == key.curve.name]
        return named[0] if named else None
    return Algorithm.ED25519 if isinstance(key, Ed25519PublicKey) else Algorithm.X25519


def load_public(der: bytes) -> PublicKey:
    """A slot's public half from its SubjectPublicKeyInfo."""
    key = serialization.load_der_public_key(der)
    if isinstance(key, PublicKey):
        return key
    raise TypeError(type(key).__name__)


def public_template(der: bytes) -> bytes:
    """The content of tag 7F49 for a SubjectPublicKeyInfo: 81 n, 82 e, or 86 point (RFC 7748 and 8032: raw)."""
    key = load_public(der)
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return tlv.encode(0x81, _unsigned(numbers.n)) + tlv.encode(0x82, _unsigned(numbers.e))
    if isinstance(key, ec.EllipticCurvePublicKey):
        point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        return tlv.encode(0x86, point)
    return tlv.encode(0x86, key.public_bytes_raw())


def ecdsa(key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    """Sign a digest of 1 to 64 bytes, cut to the curve's size; DER.

    Raises:
        UnusableInput: another length.
    """
    if not 1 <= len(digest) <= _LONGEST_DIGEST:
        raise UnusableInput
    length = key.key_size // 8
    # FIPS 186-5, 6.4.1: the leftmost bits of a longer digest, the number itself for a shorter one
    return key.sign(digest[:length].rjust(length, b"\0"), _ECDSA[length])


def agree(key: ec.EllipticCurvePrivateKey | X25519PrivateKey, point: bytes) -> bytes:
    """Agree with a peer: the shared x coordinate, or RFC 7748's shared secret.

    Args:
        key: the slot's key.
        point: uncompressed, 1 + 2 * 32 or 48 bytes; X25519: 32 bytes.

    Raises:
        UnusableInput: no point of the curve, or one that gives away nothing (RFC 7748, section 6.1).
    """
    try:
        if isinstance(key, X25519PrivateKey):
            return key.exchange(X25519PublicKey.from_public_bytes(point))
        if len(point) != 1 + 2 * (key.key_size // 8) or point[0] != 0x04:
            raise UnusableInput
        return key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(key.curve, point))
    except ValueError as error:
        raise UnusableInput from error


def scalar(key: PrivateKey) -> bytes:
    """What IMPORT ASYMMETRIC KEY takes of a key that isn't RSA: its scalar or its 32 bytes."""
    if isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("RSA keys are imported by their primes")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.private_numbers().private_value.to_bytes(key.key_size // 8, "big")
    return key.private_bytes_raw()


def _rsa(bits: int, p: int, q: int) -> rsa.RSAPrivateKey:
    if (p * q).bit_length() != bits or p == q:
        raise ValueError("modulus")
    d = pow(_RSA_EXPONENT, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(_RSA_EXPONENT, p * q)
    private = rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), public
    )
    return private.private_key()


def _unsigned(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")

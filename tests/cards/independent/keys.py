"""Key pairs and block ciphers: SP 800-78-4 tables 6-2 and 6-3, and what Yubico added to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.cards.independent import tlv

Private: TypeAlias = (
    rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | x25519.X25519PrivateKey
)

RSA_BITS: Final = {0x05: 3072, 0x06: 1024, 0x07: 2048, 0x16: 4096}
CURVES: Final[dict[int, tuple[ec.EllipticCurve, int]]] = {
    0x11: (ec.SECP256R1(), 32),
    0x14: (ec.SECP384R1(), 48),
}
ED25519: Final = 0xE0
X25519: Final = 0xE1
BLOCKS: Final = {0x03: 8, 0x08: 16, 0x0A: 16, 0x0C: 16}
KEY_SIZES: Final = {0x03: 24, 0x08: 16, 0x0A: 24, 0x0C: 32}
_SAME: Final = {0x00: 0x03}


class Unusable(Exception):
    """What is to be signed, decrypted or agreed on doesn't fit the key."""


@dataclass
class KeyPair:
    """What is in a key slot.

    Attributes:
        algorithm: SP 800-78-4 identifier.
        private: the key.
        imported: whether it came from outside.
        pin_policy: 1 never, 2 once, 3 always.
        touch_policy: 1 never, 2 always, 3 cached.
    """

    algorithm: int
    private: Private
    imported: bool
    pin_policy: int
    touch_policy: int = 1

    def public(self, *, size: int = 0) -> bytes:
        """Give the elements of the public key template.

        Args:
            size: see `tlv.build`.
        """
        match self.private:
            case rsa.RSAPrivateKey():
                numbers = self.private.public_key().public_numbers()
                modulus = numbers.n.to_bytes(self.private.key_size // 8)
                return tlv.build(0x81, modulus, size=size) + tlv.build(0x82, numbers.e.to_bytes(3), size=size)
            case ec.EllipticCurvePrivateKey():
                point = self.private.public_key().public_bytes(
                    serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
                )
                return tlv.build(0x86, point, size=size)
            case _:
                return tlv.build(0x86, self.private.public_key().public_bytes_raw(), size=size)

    def respond(self, challenge: bytes, *, exact: bool) -> bytes:
        """Sign, or with RSA take to the private exponent.

        Args:
            challenge: a padded block for RSA, a digest for ECDSA, a message for Ed25519.
            exact: whether a digest has to be as long as the curve's order.

        Raises:
            Unusable: another length, or a key that only agrees.
        """
        match self.private:
            case rsa.RSAPrivateKey():
                numbers = self.private.private_numbers()
                modulus, number = numbers.public_numbers.n, int.from_bytes(challenge)
                if len(challenge) != self.private.key_size // 8 or number >= modulus:
                    raise Unusable("not a block of the modulus' size")
                return pow(number, numbers.d, modulus).to_bytes(len(challenge))
            case ec.EllipticCurvePrivateKey():
                size = CURVES[self.algorithm][1]
                if not challenge or len(challenge) > size or (exact and len(challenge) < size):
                    raise Unusable("not a digest of the curve's size")
                chosen = hashes.SHA256() if size == 32 else hashes.SHA384()
                return self.private.sign(challenge.rjust(size, b"\0"), ec.ECDSA(Prehashed(chosen)))
            case ed25519.Ed25519PrivateKey():
                return self.private.sign(challenge)
            case _:
                raise Unusable("a key that can only agree")

    def agree(self, point: bytes) -> bytes:
        """Agree on a secret.

        Raises:
            Unusable: no point of the curve, or a key that can't agree.
        """
        try:
            match self.private:
                case ec.EllipticCurvePrivateKey():
                    if point[:1] != b"\x04":
                        raise Unusable("a compressed point")
                    peer = ec.EllipticCurvePublicKey.from_encoded_point(self.private.curve, point)
                    return self.private.exchange(ec.ECDH(), peer)
                case x25519.X25519PrivateKey():
                    return self.private.exchange(x25519.X25519PublicKey.from_public_bytes(point))
                case _:
                    raise Unusable("a key that can't agree")
        except ValueError as error:
            raise Unusable("not a point of the curve") from error


def generate(algorithm: int) -> Private:
    """Make a key of a known algorithm."""
    if algorithm in RSA_BITS:
        return rsa.generate_private_key(65537, RSA_BITS[algorithm])
    if algorithm in CURVES:
        return ec.generate_private_key(CURVES[algorithm][0])
    if algorithm == ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    return x25519.X25519PrivateKey.generate()


def load(algorithm: int, given: dict[int, bytes]) -> Private:
    """Put an imported key together.

    Args:
        algorithm: its identifier.
        given: elements 01 to 05 of RSA, 06 of a curve, 07 of Ed25519, 08 of X25519.

    Raises:
        Unusable: elements missing, or of the wrong size, or no key.
    """
    try:
        if algorithm in RSA_BITS:
            return _load_rsa(RSA_BITS[algorithm], *(given[tag] for tag in range(1, 6)))
        if algorithm in CURVES:
            curve, size = CURVES[algorithm]
            if len(given[0x06]) != size:
                raise Unusable("not a scalar of the curve's size")
            return ec.derive_private_key(int.from_bytes(given[0x06]), curve)
        if algorithm == ED25519:
            return ed25519.Ed25519PrivateKey.from_private_bytes(given[0x07])
        return x25519.X25519PrivateKey.from_private_bytes(given[0x08])
    except (KeyError, ValueError) as error:
        raise Unusable("elements missing, or no key") from error


def _load_rsa(bits: int, *parts: bytes) -> rsa.RSAPrivateKey:
    if any(len(part) != bits // 16 for part in parts):
        raise Unusable("a part that isn't half as long as the modulus")
    p, q, dp, dq, inverse = (int.from_bytes(part) for part in parts)
    exponent = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, exponent, dp, dq, inverse, public)
    return numbers.private_key()


@dataclass
class ManagementKey:
    """The card management key 9B.

    Attributes:
        algorithm: 03, 08, 0A or 0C.
        value: its bytes.
        default: whether it is the maker's.
    """

    algorithm: int
    value: bytes
    default: bool = True

    @property
    def block(self) -> int:
        """Bytes of a challenge or witness."""
        return BLOCKS[self.algorithm]

    def is_for(self, algorithm: int) -> bool:
        """Whether P1 of GENERAL AUTHENTICATE names this key's algorithm; 00 is 03."""
        return _SAME.get(algorithm, algorithm) == self.algorithm

    def encrypt(self, block: bytes) -> bytes:
        """Encrypt one block."""
        cipher = TripleDES if self.algorithm == 0x03 else algorithms.AES
        run = Cipher(cipher(self.value), modes.ECB()).encryptor()  # noqa: S305 - the standard's, one block
        return run.update(block) + run.finalize()

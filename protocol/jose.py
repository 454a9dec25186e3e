"""Signing, verifying, encrypting: JOSE with one algorithm for each purpose and no choice left to the sender.

Signatures are ES256 (RFC 7515, RFC 7518 3.4), encryption is ECDH-ES+A256KW with A256GCM (RFC 7516). The
algorithm is a constant here, and the key comes from the caller: nothing in a token's header ever selects
either. Each kind of token has a ``typ``, so that one can't be passed off as another (RFC 8725 3.11).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from typing import TYPE_CHECKING, Final, TypeVar

from joserfc import jwe, jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from protocol import codec
from protocol.errors import DecodeError, InlayError
from protocol.messages import Message, PublicJwk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

SIGNATURE_ALGORITHM: Final = "ES256"
_JWE_ALGORITHM: Final = "ECDH-ES+A256KW"
_JWE_ENCRYPTION: Final = "A256GCM"
_JWE_REGISTRY: Final = jwe.JWERegistry(algorithms=[_JWE_ALGORITHM, _JWE_ENCRYPTION])
_JWS_REGISTRY: Final = jws.JWSRegistry(algorithms=[SIGNATURE_ALGORITHM])

CHANNEL: Final = "inlay-channel+jwt"
CLAIM: Final = "inlay-claim+jwt"
KEY_SET: Final = "inlay-keyset+jwt"
MESSAGE: Final = "inlay-message+jwt"
ORDER: Final = "inlay-order+jwt"
RESUME: Final = "inlay-resume+jwt"
TICKET: Final = "inlay-ticket+jwt"

M = TypeVar("M", bound=Message)


class TokenError(Exception):
    """A token that isn't what it must be.

    Attributes:
        reason: ``algorithm`` (not ES256, or not this kind of token), ``signature``, or ``payload``.
        path: for ``payload``, where it breaks the protocol.
    """

    def __init__(self, reason: str, path: str = "$") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path

    def as_error(self, *, signature: str, algorithm: str, payload: str) -> InlayError:
        """The error of the table for the place where the token stood."""
        if self.reason == "payload":
            return DecodeError(payload, self.path)
        return InlayError(signature if self.reason == "signature" else algorithm)


class SigningKey:
    """A P-256 private key that signs tokens.

    Attributes:
        public: the public half.
        thumbprint: RFC 7638 thumbprint of the public half, base64url.
    """

    def __init__(self, key: ECKey) -> None:
        if key.curve_name != "P-256" or not key.is_private:
            raise ValueError("not a P-256 private key")
        self._key = key
        self.public = _public_of(key)
        self.thumbprint = thumbprint(self.public)

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a fresh key."""
        return cls(ECKey.generate_key("P-256", private=True))

    @classmethod
    def from_pem(cls, pem: bytes) -> SigningKey:
        """Load an unencrypted PKCS#8 PEM.

        Raises:
            ValueError: not a P-256 private key.
        """
        return cls(ECKey.import_key(pem))

    @classmethod
    def from_key(cls, key: EllipticCurvePrivateKey) -> SigningKey:
        """Use a P-256 private key that stays where it is, for example in a hardware module."""
        public = _jwk(key.public_key())
        # the library's dictionary of a key is its public half here: it would ask the key for its secret otherwise
        return cls(ECKey(key, {"kty": public.kty, "crv": public.crv, "x": public.x, "y": public.y}))

    def to_pem(self) -> bytes:
        """The private key as unencrypted PKCS#8 PEM; the caller protects it."""
        return self._key.as_pem(private=True)

    def sign(self, typ: str, payload: Message, **header: object) -> str:
        """Sign a message.

        Args:
            typ: kind of token, one of this module's constants.
            payload: the message.
            header: further protected header members; never read to choose a key or an algorithm.

        Returns:
            Compact JWS.
        """
        protected = {"alg": SIGNATURE_ALGORITHM, "typ": typ, "kid": self.thumbprint, **header}
        return jws.serialize_compact(protected, codec.encode(payload), self._key, registry=_JWS_REGISTRY)

    def decrypt(self, token: str) -> bytearray:
        """Open a JWE made to the public half.

        Returns:
            The plaintext; the caller wipes it.

        Raises:
            InlayError: ``message_signature_invalid``: it was not made to this key, or altered.
        """
        try:
            opened = jwe.decrypt_compact(token, self._key, registry=_JWE_REGISTRY)
        except (JoseError, ValueError):
            raise InlayError("message_signature_invalid") from None
        return bytearray(opened.plaintext or b"")

    def __repr__(self) -> str:
        return f"SigningKey({self.thumbprint})"


def verify(token: str, typ: str, keys: Iterable[PublicJwk], type_: type[M]) -> M:
    """Verify a compact JWS and decode its payload.

    Args:
        token: compact JWS.
        typ: the kind of token it must be.
        keys: keys that may have signed it; the caller's, never the token's.
        type_: struct of the payload.

    Raises:
        TokenError: wrong kind or algorithm, no key fits, or the payload breaks the protocol.
    """
    header = _header(token)
    if header.get("alg") != SIGNATURE_ALGORITHM or header.get("typ") != typ or "crit" in header:
        raise TokenError("algorithm")
    for key in keys:
        try:
            verified = jws.deserialize_compact(token, _import(key), registry=_JWS_REGISTRY)
        except (JoseError, ValueError):
            continue
        return _payload(verified.payload, type_)
    raise TokenError("signature")


def unverified_payload(token: str, typ: str, type_: type[M]) -> M:
    """Decode a payload before its key is known, to find the key in it (claims carry the device's).

    The caller must ``verify`` with the key found before it relies on anything.

    Raises:
        TokenError: wrong kind or algorithm, or the payload breaks the protocol.
    """
    header = _header(token)
    if header.get("alg") != SIGNATURE_ALGORITHM or header.get("typ") != typ:
        raise TokenError("algorithm")
    try:
        raw = _base64url(token.split(".")[1])
    except (ValueError, IndexError):
        raise TokenError("payload") from None
    return _payload(raw, type_)


def encrypt(plaintext: bytes | bytearray, recipient: PublicJwk) -> str:
    """Encrypt to a public key.

    Returns:
        Compact JWE.
    """
    header = {"alg": _JWE_ALGORITHM, "enc": _JWE_ENCRYPTION}
    return jwe.encrypt_compact(header, bytes(plaintext), _import(recipient), registry=_JWE_REGISTRY)


def is_point(key: PublicJwk) -> bool:
    """Tell whether a key is a point of the curve: what isn't can be stored, and fails when it is used."""
    try:
        _import(key).as_pem(private=False)
    except (JoseError, ValueError):
        return False
    return True


def thumbprint(key: PublicJwk) -> str:
    """RFC 7638 thumbprint with SHA-256, base64url without padding."""
    members = {"crv": key.crv, "kty": key.kty, "x": key.x, "y": key.y}
    text = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return base64url(hashlib.sha256(text.encode()).digest())


def fingerprint(key: PublicJwk) -> str:
    """A root key's fingerprint as people compare it: its thumbprint's SHA-256 in hexadecimal, groups of four."""
    digest = _base64url(thumbprint(key)).hex().upper()
    return " ".join(digest[i : i + 4] for i in range(0, len(digest), 4))


def new_nonce() -> str:
    """256 fresh random bits, base64url."""
    return base64url(secrets.token_bytes(32))


def base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _base64url(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _public_of(key: ECKey) -> PublicJwk:
    return _jwk(key.public_key)


def _jwk(key: EllipticCurvePublicKey) -> PublicJwk:
    numbers = key.public_numbers()
    x, y = (base64url(value.to_bytes(32)) for value in (numbers.x, numbers.y))
    return PublicJwk(kty="EC", crv="P-256", x=x, y=y)


def _import(key: PublicJwk) -> ECKey:
    return ECKey.import_key({"kty": key.kty, "crv": key.crv, "x": key.x, "y": key.y})


def _header(token: str) -> dict[str, object]:
    try:
        header = json.loads(_base64url(token.split(".", 1)[0]))
    except (ValueError, RecursionError):
        raise TokenError("algorithm") from None
    if not isinstance(header, dict):
        raise TokenError("algorithm")
    return header


def _payload(raw: bytes, type_: type[M]) -> M:
    try:
        return codec.decode(raw, type_)
    except DecodeError as error:
        raise TokenError("payload", error.path) from None

"""The portal's keys on a PKCS#11 token: they are made there or moved there, and never leave it again.

Each key is an object with a label of its own (``inlay-root``, ``inlay-order-1`` …). Public halves are read once; what a
key does is a call to the token (``portal.keys_token_process``), which may be away: then it is ``KeysUnavailableError``,
nothing is lost, and the next call after a rest asks again.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from portal.keys import MAX_ORDER_KEYS, KeyStoreError, KeysUnavailableError
from portal.keys_token_process import TokenMissingError, TokenProcess, TokenRefusedError
from protocol import jose
from protocol.errors import InlayError

if TYPE_CHECKING:
    from portal.config import Pkcs11
    from portal.keys import FileKeys

_PREFIX: Final = "inlay-"
_NONCE: Final = 12
_TAG: Final = 16
_EC: Final[dict[str, tuple[str, str]]] = {
    "root": ("P-256", "sign"),
    "order-1": ("P-256", "sign"),
    "escrow": ("P-256", "agree"),
    "ca": ("P-384", "sign"),
    "ocsp": ("P-256", "sign"),
}
"""Name to curve and use; beside them there is the AES key ``sealing``."""
_SEALING: Final = "sealing"
_CURVES: Final[dict[str, ec.EllipticCurve]] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}
_DAMAGED: Final = frozenset({0x40, 0x41})
"""CKR_ENCRYPTED_DATA_INVALID and _LEN_RANGE."""


class TokenKeys:
    """Keys on a token.

    Args:
        process: the token.

    Raises:
        KeyStoreError: ``token_missing``, ``token_empty``, or ``pin_wrong``.
    """

    def __init__(self, process: TokenProcess) -> None:
        self._process = process
        labels = _labels(process)
        missing = (set(_EC) - {"order-1"} | {_SEALING}) - labels
        self._numbers = _order_numbers(labels)
        if missing or not self._numbers:
            raise KeyStoreError("token_empty", process.module)
        self._root = self._signing("root")
        self._escrow = self._signing("escrow")
        self._ca = self._key("ca", "P-384")
        self._ocsp = self._key("ocsp", "P-256")
        self._orders = [self._signing(f"order-{number}") for number in self._numbers]

    @classmethod
    def make(cls, process: TokenProcess) -> TokenKeys:
        """Make fresh keys on a token.

        Raises:
            KeyStoreError: ``token_in_use``, ``token_refused``.
        """
        _check_unused(process)
        with _Putting(process) as put:
            for name, (curve, use) in _EC.items():
                put.call("make_ec", name, curve=curve, use=use)
            put.call("make_aes", _SEALING)
        return cls(process)

    @classmethod
    def move(cls, process: TokenProcess, keys: FileKeys) -> TokenKeys:
        """Put the keys of a file on a token; the file stays.

        Raises:
            KeyStoreError: ``token_in_use``; ``token_refused``: it takes no keys that were made elsewhere.
        """
        _check_unused(process)
        with _Putting(process) as put:
            for name, key in keys.private_keys().items():
                curve, use = _EC["order-1" if name.startswith("order-") else name]
                put.call("put_ec", name, curve=curve, use=use, **_values(key))
            put.call("put_aes", _SEALING, value=keys.sealing_key().hex())
        return cls(process)

    def root(self) -> jose.SigningKey:
        """The key that signs key sets."""
        return self._root

    def order_keys(self) -> list[jose.SigningKey]:
        """Order keys, newest first."""
        return list(self._orders)

    def rotate_order_key(self) -> jose.SigningKey:
        """Make a new order key on the token; the oldest one goes when there are too many."""
        number = self._numbers[0] + 1
        name = f"order-{number}"
        self._call("make_ec", name, curve="P-256", use="sign")
        self._orders.insert(0, self._signing(name))
        self._numbers.insert(0, number)
        for old in self._numbers[MAX_ORDER_KEYS:]:
            self._call("delete", f"order-{old}")
        del self._orders[MAX_ORDER_KEYS:], self._numbers[MAX_ORDER_KEYS:]
        return self._orders[0]

    def escrow(self) -> jose.SigningKey:
        """The key that escrowed PUKs are encrypted to."""
        return self._escrow

    def ca(self) -> ec.EllipticCurvePrivateKey:
        """The built-in CA's key."""
        return self._ca

    def ocsp(self) -> ec.EllipticCurvePrivateKey:
        """The OCSP responder's key."""
        return self._ocsp

    def seal(self, plaintext: bytes | bytearray, associated: bytes) -> bytes:
        """Seal a secret for the database."""
        nonce = secrets.token_bytes(_NONCE)
        data = bytes(plaintext).hex()
        sealed = self._call("seal", _SEALING, nonce=nonce.hex(), associated=associated.hex(), data=data)
        return nonce + bytes.fromhex(sealed)

    def unseal(self, sealed: bytes, associated: bytes) -> bytearray:
        """Open what was sealed."""
        if len(sealed) < _NONCE + _TAG:
            raise InlayError("internal")
        try:
            return self._unsealed(sealed, associated)
        except TokenRefusedError as refusal:
            # tokens say it in different ways: one that still opens what it sealed means the data
            if refusal.code in _DAMAGED or self._opens():
                raise InlayError("internal") from None
            self._process.renew()
            raise KeysUnavailableError(refusal.call) from None

    def close(self) -> None:
        """End the token's process."""
        self._process.close()

    def _opens(self) -> bool:
        try:
            return self._unsealed(self.seal(b"probe", b""), b"") == b"probe"
        except (KeysUnavailableError, TokenRefusedError):
            return False

    def _unsealed(self, sealed: bytes, associated: bytes) -> bytearray:
        nonce, data = sealed[:_NONCE].hex(), sealed[_NONCE:].hex()
        try:
            opened = self._process.call(
                "unseal", label=_PREFIX + _SEALING, nonce=nonce, associated=associated.hex(), data=data
            )
        except (TokenMissingError, KeyStoreError):
            raise KeysUnavailableError("away") from None
        return bytearray.fromhex(opened)

    def _signing(self, name: str) -> jose.SigningKey:
        return jose.SigningKey.from_key(self._key(name, "P-256"))

    def _key(self, name: str, curve: str) -> _TokenKey:
        raw = bytes.fromhex(self._call("point", name))
        # some tokens keep the bare point, most the OCTET STRING around it that the standard asks for
        point = raw[2:] if raw[:1] == b"\x04" and len(raw) % 2 == 1 and raw[1] == len(raw) - 2 else raw
        public = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve], point)
        return _TokenKey(self, name, public)

    def _call(self, operation: str, name: str, **arguments: Any) -> Any:
        """A call with a key that is there.

        Raises:
            KeysUnavailableError: it can't be used now.
        """
        try:
            return self._process.call(operation, label=_PREFIX + name, **arguments)
        except TokenRefusedError as refusal:
            self._process.renew()
            raise KeysUnavailableError(refusal.call) from None
        except (TokenMissingError, KeyStoreError):
            raise KeysUnavailableError("away") from None

    def sign(self, name: str, digest: bytes) -> bytes:
        """ECDSA over a digest: r and s, one after the other."""
        return bytes.fromhex(self._call("sign", name, digest=digest.hex()))

    def agree(self, name: str, point: bytes) -> bytes:
        """ECDH: the shared x coordinate."""
        return bytes.fromhex(self._call("agree", name, point=point.hex()))


class _TokenKey(ec.EllipticCurvePrivateKey):
    """A key on the token where a private key is asked for: for certificates, CRLs, OCSP answers, JWS and JWE."""

    def __init__(self, keys: TokenKeys, name: str, public: ec.EllipticCurvePublicKey) -> None:
        self._keys = keys
        self._name = name
        self._public = public

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half, as read at the start."""
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        """The curve."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """Bits of the curve."""
        return self._public.key_size

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """ECDSA, DER; the digest is made here and the signature on the token."""
        algorithm = signature_algorithm.algorithm
        if not isinstance(algorithm, hashes.HashAlgorithm):
            _stays()
        digest = hashes.Hash(algorithm)
        digest.update(data)
        raw = self._keys.sign(self._name, digest.finalize())
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        """ECDH on the token."""
        point = peer_public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return self._keys.agree(self._name, point)

    def private_numbers(self) -> NoReturn:
        """Never."""
        _stays()

    def private_bytes(self, *_: Any) -> NoReturn:
        """Never."""
        _stays()

    def __copy__(self) -> _TokenKey:
        return self

    def __deepcopy__(self, _memo: Any) -> _TokenKey:
        return self


class _Putting:
    """Keys are being put on a token: all of them or none."""

    def __init__(self, process: TokenProcess) -> None:
        self._process = process
        self._put: list[str] = []

    def call(self, operation: str, name: str, **arguments: Any) -> None:
        """Make or put one key."""
        self._put.append(name)
        self._process.call(operation, label=_PREFIX + name, **arguments)

    def __enter__(self) -> _Putting:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        for name in self._put:
            self._process.call("delete", label=_PREFIX + name)
        if issubclass(kind, TokenRefusedError):
            raise KeyStoreError("token_refused", self._process.module) from None


def open_token(settings: Pkcs11) -> TokenProcess:
    """The configured token; nothing is loaded yet.

    Raises:
        KeyStoreError: ``pin_missing``.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY", "/run/credentials/inlay-portal.service")
    source = Path(settings.pin_file) if settings.pin_file else Path(credentials) / "inlay-token-pin"
    try:
        pin = source.read_bytes().rstrip(b"\r\n")
    except OSError:
        raise KeyStoreError("pin_missing", source) from None
    return TokenProcess(Path(settings.module), settings.token, pin, settings.seconds)


def _labels(process: TokenProcess) -> set[str]:
    """Names of this portal's keys on a token."""
    try:
        process.open()
        labels: list[str] = process.call("labels")
    except (KeysUnavailableError, TokenRefusedError, TokenMissingError):
        raise KeyStoreError("token_missing", process.module) from None
    return {label.removeprefix(_PREFIX) for label in labels if label.startswith(_PREFIX)}


def _check_unused(process: TokenProcess) -> None:
    if _labels(process):
        raise KeyStoreError("token_in_use", process.module)


def _order_numbers(labels: set[str]) -> list[int]:
    names = [label.removeprefix("order-") for label in labels if label.startswith("order-")]
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def _values(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """An EC key as the token takes it: the point as OCTET STRING, the value in full length."""
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    value = key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8)
    return {"point": (bytes([0x04, len(point)]) + point).hex(), "value": value.hex()}


def _stays() -> NoReturn:
    raise TypeError("the key stays on its token")

"""One port to every key that the portal owns, and its default: a file sealed by a passphrase.

Root key, order keys, CA key, OCSP key, escrow key and the AES-256 sealing key never lie in the database. The file holds
each key sealed with AES-256-GCM, its name as associated data, under a key that Argon2id makes of the passphrase. The
passphrase comes from a file or a systemd credential, never from an argument or the environment.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Protocol

import msgspec
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from protocol import jose
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MAX_ORDER_KEYS: Final = 3
"""The newest signs; older ones stay in the key set for orders that are under way."""
_NONCE: Final = 12
_MIN_PASSPHRASE: Final = 16


class KeyStoreError(Exception):
    """The portal's keys can't be used.

    Attributes:
        reason: ``missing``, ``exists``, ``damaged``, ``passphrase_wrong`` or ``passphrase_short``; of a token:
            ``token_missing``, ``token_empty``, ``token_in_use``, ``token_refused``, ``pin_wrong`` or ``pin_missing``.
        where: the file, or the module.
    """

    def __init__(self, reason: str, where: Path) -> None:
        super().__init__(reason, where)
        self.reason = reason
        self.where = where

    def __str__(self) -> str:
        return {
            "missing": f"There is no key file {self.where}. Make it with: inlay-portal init",
            "exists": f"There is a key file {self.where} already.",
            "damaged": f"The key file {self.where} can't be read as one.",
            "passphrase_wrong": f"The passphrase doesn't open the key file {self.where}.",
            "token_missing": f"The PKCS#11 module {self.where} has no token of this label, or doesn't answer.",
            "token_empty": "The token has no keys of this portal. Make them with: inlay-portal keys make",
            "token_in_use": "The token has keys of a portal already. Use another token, or delete them with its tool.",
            "token_refused": f"The token of {self.where} can't do what a key of this portal has to.",
            "pin_wrong": f"The token of {self.where} doesn't take the PIN. It wasn't tried a second time.",
            "pin_missing": f"The token's PIN can't be read from {self.where}.",
            "passphrase_short": f"The passphrase in {self.where} is shorter than {_MIN_PASSPHRASE} characters.",
        }[self.reason]


class KeysUnavailableError(InlayError):
    """A key can't be used now, and may be again: the token that holds it doesn't answer (``keys_unavailable``).

    Attributes:
        reason: ``away``, ``timeout`` or the name of the function that the token refused; for logs.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("keys_unavailable")
        self.reason = reason


class KeyPort(Protocol):
    """The portal's keys, wherever they are."""

    def root(self) -> jose.SigningKey:
        """The key that signs key sets; its public half is pinned by agents."""

    def order_keys(self) -> list[jose.SigningKey]:
        """Keys of orders, messages and tickets; the first one signs."""

    def rotate_order_key(self) -> jose.SigningKey:
        """Make a new order key; the oldest one goes when there are too many."""

    def escrow(self) -> jose.SigningKey:
        """The key that escrowed PUKs are encrypted to."""

    def ca(self) -> ec.EllipticCurvePrivateKey:
        """The built-in CA's key (P-384)."""

    def ocsp(self) -> ec.EllipticCurvePrivateKey:
        """The OCSP responder's key (P-256)."""

    def seal(self, plaintext: bytes | bytearray, associated: bytes) -> bytes:
        """Seal a secret for the database (AES-256-GCM): nonce and ciphertext."""

    def unseal(self, sealed: bytes, associated: bytes) -> bytearray:
        """Open what was sealed; the caller wipes it.

        Raises:
            InlayError: ``internal``: it isn't what was sealed with this associated data.
        """


class Argon2Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cost of opening the key file."""

    time: Annotated[int, msgspec.Meta(ge=1, le=64)] = 3
    memory_kib: Annotated[int, msgspec.Meta(ge=8, le=4_194_304)] = 65_536
    lanes: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    salt: bytes
    argon2id: Argon2Cost
    keys: dict[str, bytes]
    """name to nonce and ciphertext"""


class FileKeys:
    """Keys in a file.

    Args:
        path: the file; 0600, in a folder of its own.
        passphrase: as bytes, without a line end.

    Raises:
        KeyStoreError: missing, damaged, or the passphrase is wrong.
    """

    def __init__(self, path: Path, passphrase: bytes) -> None:
        self._path = path
        self._file = _read(path)
        self._master = AESGCM(_derive(passphrase, self._file.salt, self._file.argon2id))
        self._root = jose.SigningKey.from_pem(self._open("root"))
        self._escrow = jose.SigningKey.from_pem(self._open("escrow"))
        self._ca = _load_ec(self._open("ca"))
        if "ocsp" not in self._file.keys:  # a file from before there was a responder
            self._change(lambda keys: keys.setdefault("ocsp", self._sealed("ocsp", _fresh(ec.SECP256R1()))))
        self._ocsp = _load_ec(self._open("ocsp"))
        self._sealing = AESGCM(self._open("sealing"))
        self._orders = self._load_orders()

    @classmethod
    def create(cls, path: Path, passphrase: bytes, cost: Argon2Cost | None = None) -> FileKeys:
        """Make a file with fresh keys.

        Raises:
            KeyStoreError: ``exists``.
        """
        if path.exists():
            raise KeyStoreError("exists", path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        salt, cost = secrets.token_bytes(16), cost or Argon2Cost()
        master = AESGCM(_derive(passphrase, salt, cost))
        plain = {
            "root": jose.SigningKey.generate().to_pem(),
            "order-1": jose.SigningKey.generate().to_pem(),
            "escrow": jose.SigningKey.generate().to_pem(),
            "ca": _fresh(ec.SECP384R1()),
            "ocsp": _fresh(ec.SECP256R1()),
            "sealing": AESGCM.generate_key(256),
        }
        sealed = {name: _seal(master, key, _label(name)) for name, key in plain.items()}
        _store(path, _File(version=1, salt=salt, argon2id=cost, keys=sealed))
        return cls(path, passphrase)

    def root(self) -> jose.SigningKey:
        """The key that signs key sets."""
        return self._root

    def order_keys(self) -> list[jose.SigningKey]:
        """Order keys, newest first."""
        return list(self._orders)

    def rotate_order_key(self) -> jose.SigningKey:
        """Make a new order key and store it before it is used."""
        pem = jose.SigningKey.generate().to_pem()

        def rotate(keys: dict[str, bytes]) -> None:
            numbers = _order_numbers(keys)
            name = f"order-{numbers[0] + 1}"
            keys[name] = self._sealed(name, pem)
            for number in numbers[MAX_ORDER_KEYS - 1 :]:
                del keys[f"order-{number}"]

        self._change(rotate)
        self._orders = self._load_orders()
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
        return _seal(self._sealing, plaintext, associated)

    def unseal(self, sealed: bytes, associated: bytes) -> bytearray:
        """Open what was sealed."""
        try:
            return bytearray(self._sealing.decrypt(sealed[:_NONCE], sealed[_NONCE:], associated))
        except (InvalidTag, ValueError):
            raise InlayError("internal") from None

    def private_keys(self) -> dict[str, ec.EllipticCurvePrivateKey]:
        """All EC keys by name, to be moved elsewhere."""
        names = [name for name in self._file.keys if name != "sealing"]
        return {name: _load_ec(self._open(name)) for name in names}

    def sealing_key(self) -> bytes:
        """The AES-256 key that secrets are sealed under, to be moved elsewhere."""
        return self._open("sealing")

    def _open(self, name: str) -> bytes:
        sealed = self._file.keys.get(name)
        if sealed is None:
            raise KeyStoreError("damaged", self._path)
        try:
            return self._master.decrypt(sealed[:_NONCE], sealed[_NONCE:], _label(name))
        except InvalidTag:
            raise KeyStoreError("passphrase_wrong", self._path) from None

    def _sealed(self, name: str, plain: bytes) -> bytes:
        return _seal(self._master, plain, _label(name))

    def _change(self, change: Callable[[dict[str, bytes]], object]) -> None:
        """Change the file as it is now: another process may have changed it since it was read."""
        with _locked(self._path.parent):
            self._file = _read(self._path)
            keys = dict(self._file.keys)
            change(keys)
            self._file = msgspec.structs.replace(self._file, keys=keys)
            _store(self._path, self._file)

    def _load_orders(self) -> list[jose.SigningKey]:
        numbers = _order_numbers(self._file.keys)
        return [jose.SigningKey.from_pem(self._open(f"order-{number}")) for number in numbers]


def read_passphrase(path: Path | None) -> bytes:
    """Read the passphrase from a file, or from the systemd credential ``inlay-passphrase``.

    Raises:
        KeyStoreError: ``missing`` or ``passphrase_short``.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY", "/run/credentials/inlay-portal.service")
    source = path or Path(credentials) / "inlay-passphrase"
    try:
        passphrase = source.read_bytes().rstrip(b"\r\n")
    except OSError:
        raise KeyStoreError("missing", source) from None
    if len(passphrase) < _MIN_PASSPHRASE:
        raise KeyStoreError("passphrase_short", source)
    return passphrase


def _derive(passphrase: bytes, salt: bytes, cost: Argon2Cost) -> bytes:
    return hash_secret_raw(
        passphrase,
        salt,
        time_cost=cost.time,
        memory_cost=cost.memory_kib,
        parallelism=cost.lanes,
        hash_len=32,
        type=Type.ID,
    )


def _label(name: str) -> bytes:
    return b"inlay-portal-key:" + name.encode()


def _seal(key: AESGCM, plaintext: bytes | bytearray, associated: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE)
    return nonce + key.encrypt(nonce, bytes(plaintext), associated)


def _fresh(curve: ec.EllipticCurve) -> bytes:
    key = ec.generate_private_key(curve)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load_ec(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not an EC key")
    return key


def _order_numbers(keys: Iterable[str]) -> list[int]:
    """Numbers of the order keys, newest first."""
    numbers = [name.removeprefix("order-") for name in keys if name.startswith("order-")]
    return sorted((int(number) for number in numbers), reverse=True)


def _read(path: Path) -> _File:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        raise KeyStoreError("missing", path) from None
    except msgspec.DecodeError:
        raise KeyStoreError("damaged", path) from None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time changes files of the folder; the lock goes with the process."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _store(path: Path, file: _File) -> None:
    """Write atomically: the old file or the new one, never half of one."""
    fresh = path.with_name(f".{path.name}.{base64.b32encode(secrets.token_bytes(5)).decode()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(msgspec.json.encode(file))
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

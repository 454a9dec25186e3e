"""The device secret: 32 bytes that tie this user's files to this machine's key store.

Levels, each said to the user and in the receipt:

- ``keystore``: in the system's key store (Secret Service on Linux, Credential Manager on Windows,
  Keychain on macOS), which the login opens. Backends that keep secrets in plain text, or not at all,
  are refused.
- ``file``: in a 0600 file next to the rest. A stolen disk then costs a short PIN only days of work, so
  it is refused unless the caller says that policy allows it.

A small marker file in the state directory says which level is in use and holds a check value, so that
a lost or exchanged secret is said, never silently replaced by a new one.

Errors, all `protocol.errors.InlayError`::

    DeviceSecretError
    ├── KeystoreMissing     keystore_missing     no key store, or only one that is refused
    ├── KeystoreLocked      keystore_locked      it is there and locked
    ├── FileLevelRefused    storage_refused      level file without permission, or rights too wide
    └── DeviceSecretLost    device_secret_lost   marker without its secret, or with another one
"""

from __future__ import annotations

import base64
import contextlib
import enum
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Protocol

import msgspec
from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.durable import write_durably
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyring.backend import KeyringBackend

SERVICE: Final = "Inlay"
SECRET_BYTES: Final = 32

_MARKER: Final = "device-secret.json"
_FILE: Final = "device-secret.key"
_CHECK: Final = "check value"

_TRUSTED_BACKENDS: Final = {
    "keyring.backends.SecretService",
    "keyring.backends.libsecret",
    "keyring.backends.kwallet",
    "keyring.backends.Windows",
    "keyring.backends.macOS",
}
"""Modules of keyring whose secrets are encrypted under the login. All others are refused."""


class Level(enum.StrEnum):
    """Where the device secret is kept."""

    KEYSTORE = "keystore"
    FILE = "file"


class DeviceSecretError(InlayError):
    """The device secret can't be had."""


class KeystoreMissing(DeviceSecretError):
    """There is no key store that may be used.

    Attributes:
        backend: the backend that keyring would have used, for the log; "" when there was none.
    """

    def __init__(self, backend: str = "") -> None:
        super().__init__("keystore_missing")
        self.backend = backend


class KeystoreLocked(DeviceSecretError):
    """The key store is locked, and nobody unlocked it."""

    def __init__(self) -> None:
        super().__init__("keystore_locked")


class FileLevelRefused(DeviceSecretError):
    """The secret would lie, or lies, in a file that policy or its rights forbid."""

    def __init__(self) -> None:
        super().__init__("storage_refused", level=Level.FILE.value)


class DeviceSecretLost(DeviceSecretError):
    """There were files under a device secret, and the secret is gone or is another one."""

    def __init__(self) -> None:
        super().__init__("device_secret_lost")


class DeviceSecret:
    """The secret, from which keys for single purposes are derived; never shown.

    Attributes:
        level: where it is kept.
    """

    def __init__(self, value: bytes, level: Level) -> None:
        """Hold 32 random bytes."""
        if len(value) != SECRET_BYTES:
            raise ValueError("device secret of a wrong length")
        self._value = value
        self.level = level

    def __repr__(self) -> str:
        return f"<DeviceSecret {self.level}>"

    def derive(self, purpose: str, length: int = 32) -> bytes:
        """Derive a key by HKDF-SHA-256 (RFC 5869).

        Args:
            purpose: what it is for; each purpose has its own key.
            length: bytes, 1 to 8160.
        """
        return HKDF(hashes.SHA256(), length, b"inlay device secret", purpose.encode()).derive(self._value)


class _Marker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    level: Level
    name: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    check: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class _Keeper(Protocol):
    """A place for one secret under a name."""

    def get(self, name: str) -> bytes | None: ...
    def put(self, name: str, value: bytes) -> None: ...


def open_device_secret(
    level: Level | str, directory: Path, *, allow_file: bool = False, ask: bool = True
) -> DeviceSecret:
    """Open the device secret of a state directory; make it when there is none. May block on the key store.

    Args:
        level: where it is, or is to be, kept.
        directory: the user's state directory; made with rights 0700 when missing.
        allow_file: whether policy allows level ``file``.
        ask: whether the key store may ask the person to unlock it; a locked one is only said otherwise.

    Raises:
        KeystoreMissing: no key store, or only a refused one.
        KeystoreLocked: the key store is locked.
        FileLevelRefused: level ``file`` isn't allowed, or its file is open to others.
        DeviceSecretLost: there was a secret, and it isn't there, or it isn't the same.
    """
    level = Level(level)
    if level is Level.FILE and not allow_file:
        raise FileLevelRefused
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    marker = _read_marker(directory)
    keeper = _KeystoreKeeper(ask=ask) if level is Level.KEYSTORE else _FileKeeper(directory)
    if marker is None:
        return _make(level, directory, keeper)
    if marker.level is not level:
        raise DeviceSecretLost
    value = keeper.get(marker.name)
    if value is None or len(value) != SECRET_BYTES:
        raise DeviceSecretLost
    secret = DeviceSecret(value, level)
    if not constant_time.bytes_eq(secret.derive(_CHECK, 16), marker.check):
        raise DeviceSecretLost
    return secret


def has_secret(directory: Path) -> bool:
    """Whether a device secret was made for a state directory, wherever it is now."""
    return os.path.lexists(directory / _MARKER)


def _make(level: Level, directory: Path, keeper: _Keeper) -> DeviceSecret:
    """Make a secret: first into its place, then the marker, so that a cut leaves nothing half made."""
    value = secrets.token_bytes(SECRET_BYTES)
    secret = DeviceSecret(value, level)
    marker = _Marker(1, level, secrets.token_hex(16), secret.derive(_CHECK, 16))
    keeper.put(marker.name, value)
    write_durably(directory / _MARKER, msgspec.json.encode(marker))
    return secret


def _read_marker(directory: Path) -> _Marker | None:
    try:
        raw = (directory / _MARKER).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(raw, type=_Marker)
    except msgspec.DecodeError as error:
        raise DeviceSecretLost from error


class _FileKeeper:
    """A 0600 file; the name is in the marker alone, for there is one secret in a directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE

    def get(self, name: str) -> bytes | None:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        with contextlib.closing(os.fdopen(descriptor, "rb")) as stream:
            status = os.fstat(descriptor)
            if stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid != os.getuid():
                raise FileLevelRefused
            return stream.read(SECRET_BYTES + 1)

    def put(self, name: str, value: bytes) -> None:
        write_durably(self._path, value)


class _KeystoreKeeper:
    """The system's key store through keyring; secrets as base64 text, which is what it takes."""

    def __init__(self, *, ask: bool) -> None:
        self._backend = _trusted_backend()
        if not ask and _would_ask(self._backend):
            raise KeystoreLocked

    def get(self, name: str) -> bytes | None:
        with _named_errors():
            text = self._backend.get_password(SERVICE, name)
        if text is None:
            return None
        try:
            return base64.b64decode(text, validate=True)
        except ValueError:
            return None

    def put(self, name: str, value: bytes) -> None:
        text = base64.b64encode(value).decode("ascii")
        with _named_errors():
            self._backend.set_password(SERVICE, name, text)
            kept = self._backend.get_password(SERVICE, name)
        if kept is None or not secrets.compare_digest(kept, text):
            raise KeystoreMissing(type(self._backend).__module__)  # takes secrets and doesn't keep them


def problem_unasked() -> DeviceSecretError | None:
    """Why the system's key store can't keep secrets now, without a window of it; None when it can."""
    try:
        return KeystoreLocked() if _would_ask(_trusted_backend()) else None
    except DeviceSecretError as error:
        return error


def _trusted_backend() -> KeyringBackend:
    """The backend keyring is set to, when it is one that encrypts."""
    import keyring  # late: it loads every backend it finds, and level file needs none of them

    with _named_errors():
        configured = keyring.get_keyring()
    candidates: list[KeyringBackend] = list(getattr(configured, "backends", None) or [configured])
    for backend in candidates:
        if type(backend).__module__ in _TRUSTED_BACKENDS:
            return backend
    if type(configured).__module__ == "keyring.backends.fail":
        # keyring looks for key stores once in a process: one that came later is only found by name
        from keyring.backends import SecretService

        with contextlib.suppress(RuntimeError):
            if SecretService.Keyring.priority:
                return SecretService.Keyring()  # type: ignore[no-untyped-call]
    raise KeystoreMissing(type(configured).__module__)


def _would_ask(backend: KeyringBackend) -> bool:
    """Whether reading opens a window of the key store: it is locked, or was never made.

    keyring unlocks by itself, and waits for the person as long as it takes. The Secret Service can be asked
    before; other key stores are those of systems that open them with the log-in.
    """
    if type(backend).__module__ != "keyring.backends.SecretService":
        return False
    import secretstorage

    with _named_errors(), contextlib.closing(secretstorage.dbus_init()) as bus:
        try:
            return secretstorage.Collection(bus).is_locked()
        except secretstorage.ItemNotFoundException:
            return True


@contextlib.contextmanager
def _named_errors() -> Iterator[None]:
    """Turn what keyring and the key stores raise into the two causes there are."""
    import keyring.errors

    try:
        yield
    except keyring.errors.KeyringLocked as error:
        raise KeystoreLocked from error
    except (keyring.errors.KeyringError, OSError) as error:  # OSError: the bus isn't there any more
        raise KeystoreMissing(type(error).__module__) from error
    except Exception as error:  # keyring lets some of the Secret Service's own through
        if not type(error).__module__.startswith(("secretstorage.", "jeepney.")):
            raise
        if type(error).__name__ in ("LockedException", "PromptDismissedException"):
            raise KeystoreLocked from error
        raise KeystoreMissing(type(error).__module__) from error

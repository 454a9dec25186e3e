"""This device: the levels at which it can keep secrets, its key, and what seals the agent's own files.

A device secret exists for each level that is in use (``agent.keys_system``), each in a folder of its own. The
device key is made at the first start under the best level there is then, sealed, and stays there.

Everything here may block on the key store: call it from a worker thread.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import threading
from importlib import metadata
from typing import TYPE_CHECKING, Final

from agent import keys_system
from agent.durable import write_durably
from agent.keys_system import (
    DeviceSecret,
    DeviceSecretError,
    FileLevelRefused,
    KeystoreLocked,
    KeystoreMissing,
    Level,
)
from agent.sealing import SealBrokenError, Sealer
from protocol import jose
from protocol.errors import InlayError
from protocol.messages import DeviceInfo, StorageLevel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOG = logging.getLogger(__name__)

_KEY_FILE: Final = "device-key.sealed"
_KEY_PLACE: Final = "device key"
_BUSY_SECONDS: Final = 2.0
"""Longer than opening a secret takes, unless the key store is asking the person."""
_BEST_FIRST: Final = (Level.KEYSTORE, Level.FILE)


class Device:
    """Secrets of this device, opened when they are first needed and held while the agent runs."""

    def __init__(self, state: Path, *, allow_file: bool) -> None:
        """Use the state folder.

        Args:
            state: the agent's state folder.
            allow_file: whether the administrator's policy allows secrets in files.
        """
        self._state = state
        self._allow_file = allow_file
        self._lock = threading.Lock()
        self._secrets: dict[Level, DeviceSecret] = {}
        self._key: jose.SigningKey | None = None

    def secret(self, level: StorageLevel | Level) -> DeviceSecret:
        """The device secret of a level, made at its first use.

        Raises:
            InlayError: ``keystore_missing``, ``keystore_locked``, ``storage_refused``, ``device_secret_lost``.
        """
        with self._lock:
            return self._secret(Level(level.value))

    def secret_unasked(self, level: StorageLevel) -> DeviceSecret:
        """The same, without a window of the key store: one that is locked is said, and nothing waits.

        Raises:
            InlayError: as `secret`.
        """
        with self._unasked():
            return self._secret(Level(level.value), ask=False)

    def open_unasked(self) -> InlayError | None:
        """Open this device's own secret, so that nothing of the agent's own has to wait for the key store.

        Returns:
            Why it can't be opened now; None when it is open.
        """
        try:
            with self._unasked():
                self._secret(self._own_level(ask=False), ask=False)
        except DeviceSecretError as error:
            return error
        return None

    def look_for(self, level: Level) -> None:
        """See whether a level's secret is there, where one was ever made; asks nobody, and makes none.

        Raises:
            InlayError: as `secret`.
        """
        with self._unasked():
            if keys_system.has_secret(self._state / f"secret-{level.value}"):
                self._secret(level, ask=False)

    def made_level(self) -> Level | None:
        """Where the device key is; None before there is one."""
        return next((level for level in _BEST_FIRST if self._key_file(level).exists()), None)

    @property
    def key_file(self) -> Path | None:
        """The device key's file; None before there is one."""
        level = self.made_level()
        return None if level is None else self._key_file(level)

    def levels(self) -> list[StorageLevel]:
        """The levels at which this machine can keep keys now, best first.

        Raises:
            InlayError: ``keystore_locked`` or ``device_secret_lost``: a level is there, and is shut. No lower
                one stands in for it unsaid.
        """
        found = []
        with self._lock:
            for level in _BEST_FIRST:
                try:
                    self._secret(level)
                except (KeystoreMissing, FileLevelRefused):
                    continue
                found.append(StorageLevel(level.value))
        return found

    def key(self) -> jose.SigningKey:
        """The device key, made at its first use.

        Raises:
            InlayError: as `secret`; ``device_secret_lost`` also when the key's file was altered.
        """
        with self._lock:
            if self._key is None:
                self._key = self._load_key() or self._make_key()
            return self._key

    def sealer(self, purpose: str) -> Sealer:
        """Seals the agent's own files, under the same level as the device key.

        Raises:
            InlayError: as `secret`.
        """
        with self._lock:
            return Sealer(self._secret(self._own_level()).derive(purpose))

    @contextlib.contextmanager
    def _unasked(self) -> Iterator[None]:
        """Hold the lock; while somebody else waits for the person, the key store is as locked as it was."""
        if not self._lock.acquire(timeout=_BUSY_SECONDS):
            raise KeystoreLocked
        try:
            yield
        finally:
            self._lock.release()

    def _secret(self, level: Level, *, ask: bool = True) -> DeviceSecret:
        if level not in self._secrets:
            folder = self._state / f"secret-{level.value}"
            self._secrets[level] = keys_system.open_device_secret(
                level, folder, allow_file=self._allow_file, ask=ask
            )
        return self._secrets[level]

    def _own_level(self, *, ask: bool = True) -> Level:
        """The level of the agent's own secrets: where the key is; before there is one, the best there is."""
        made = self.made_level()
        if made is not None:
            return made
        try:
            self._secret(Level.KEYSTORE, ask=ask)
        except KeystoreMissing:
            self._secret(Level.FILE)
            return Level.FILE
        except KeystoreLocked:
            _LOG.warning("the key store is locked: the device key can't be made yet")
            raise
        return Level.KEYSTORE

    def _key_file(self, level: Level) -> Path:
        return self._state / f"secret-{level.value}" / _KEY_FILE

    def _load_key(self) -> jose.SigningKey | None:
        level = self._own_level()
        try:
            sealed = self._key_file(level).read_bytes()
        except FileNotFoundError:
            return None
        sealer = Sealer(self._secret(level).derive("device-key"))
        try:
            return jose.SigningKey.from_pem(sealer.open(sealed, _KEY_PLACE))
        except (SealBrokenError, ValueError) as error:
            raise InlayError("device_secret_lost") from error

    def _make_key(self) -> jose.SigningKey:
        level = self._own_level()
        key = jose.SigningKey.generate()
        sealed = Sealer(self._secret(level).derive("device-key")).seal(key.to_pem(), _KEY_PLACE)
        write_durably(self._key_file(level), sealed)
        _LOG.info("device key %s made, kept at level %s", key.thumbprint, level.value)
        return key


def describe() -> DeviceInfo:
    """What this device says of itself to a portal that it trusts."""
    return DeviceInfo(
        name=(platform.node() or "unnamed")[:200],
        platform=f"{platform.system()} {platform.machine()}"[:200],
        version=version(),
    )


def version() -> str:
    """This program's version."""
    return metadata.version("inlay")

"""The device secret: refused where it wouldn't be one, said when it is lost, the same when it is there."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import keyring
import keyring.errors
import pytest
import secretstorage
from keyring.backends import fail, null
from keyring.backends.chainer import ChainerBackend

from agent.keys_system import (
    DeviceSecret,
    DeviceSecretError,
    DeviceSecretLost,
    FileLevelRefused,
    KeystoreMissing,
    Level,
    open_device_secret,
)

_REPOSITORY = Path(__file__).parents[2]


def test_file_level_needs_permission(tmp_path: Path) -> None:
    """Without the policy's leave nothing is made."""
    with pytest.raises(FileLevelRefused) as refused:
        open_device_secret(Level.FILE, tmp_path / "state")
    assert refused.value.code == "storage_refused"
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("backend", [fail.Keyring, null.Keyring, ChainerBackend])
def test_backends_that_keep_nothing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: type[keyring.backend.KeyringBackend]
) -> None:
    """fail, null, and a chain without a key store."""
    useless: list[type[keyring.backend.KeyringBackend]] = [null.Keyring, fail.Keyring]
    monkeypatch.setattr(ChainerBackend, "backends", [kind() for kind in useless])
    monkeypatch.setattr(keyring, "get_keyring", backend)
    with pytest.raises(KeystoreMissing) as missing:
        open_device_secret(Level.KEYSTORE, tmp_path)
    assert missing.value.code == "keystore_missing"
    assert missing.value.backend.startswith("keyring.backends.")
    assert list(tmp_path.iterdir()) == []


def test_plain_text_backend_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend of keyrings.alt keeps secrets in a readable file."""
    plain = type("PlaintextKeyring", (null.Keyring,), {"__module__": "keyrings.alt.file", "priority": 1})
    monkeypatch.setattr(keyring, "get_keyring", plain)
    with pytest.raises(KeystoreMissing):
        open_device_secret(Level.KEYSTORE, tmp_path)


def test_lost_or_exchanged_secret_is_said(tmp_path: Path) -> None:
    """Never replaced silently: a missing, a foreign and a short secret are lost ones."""
    open_device_secret("file", tmp_path, allow_file=True)
    path = tmp_path / "device-secret.key"
    for content in (os.urandom(32), os.urandom(31), b""):
        path.write_bytes(content)
        with pytest.raises(DeviceSecretLost):
            open_device_secret("file", tmp_path, allow_file=True)
    path.unlink()
    with pytest.raises(DeviceSecretLost) as lost:
        open_device_secret("file", tmp_path, allow_file=True)
    assert lost.value.code == "device_secret_lost"


def test_damaged_marker_is_said(tmp_path: Path) -> None:
    """A marker that can't be read is no reason to begin anew."""
    (tmp_path / "device-secret.json").write_bytes(b"{}")
    with pytest.raises(DeviceSecretLost):
        open_device_secret("file", tmp_path, allow_file=True)
    assert [path.name for path in tmp_path.iterdir()] == ["device-secret.json"]


def test_file_open_to_others_is_refused(tmp_path: Path) -> None:
    """Rights wider than the owner's: somebody may have read it."""
    open_device_secret("file", tmp_path, allow_file=True)
    (tmp_path / "device-secret.key").chmod(0o640)
    with pytest.raises(FileLevelRefused):
        open_device_secret("file", tmp_path, allow_file=True)


def test_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    """A symbolic link is no secret of ours."""
    open_device_secret("file", tmp_path, allow_file=True)
    path = tmp_path / "device-secret.key"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeviceSecretLost):
        open_device_secret("file", tmp_path, allow_file=True)


def test_file_level(tmp_path: Path) -> None:
    """The same secret each time, 0600; one key for each purpose."""
    first = open_device_secret("file", tmp_path / "state", allow_file=True)
    second = open_device_secret("file", tmp_path / "state", allow_file=True)
    assert first.derive("a") == second.derive("a") != first.derive("b")
    assert first.level is Level.FILE is second.level
    assert stat.S_IMODE((tmp_path / "state" / "device-secret.key").stat().st_mode) == 0o600
    assert first.derive("a").hex() not in repr(first)
    with pytest.raises(ValueError, match="length"):
        DeviceSecret(b"short", Level.FILE)


_IN_SESSION = """
    import pathlib, sys
    sys.path.insert(0, {repository!r})
    from agent.keys_system import *
    from agent.vsc import personalise
    from agent.vsc.commands import Algorithm
    from agent.vsc.card import VirtualCard
    from agent.vsc.state import Argon2Cost
    from agent.vsc.store import CardStore
    state = pathlib.Path({state!r})
    try:
        secret = open_device_secret("keystore", state)
    except DeviceSecretError as error:
        print(error.code)
        sys.exit()
    store = CardStore(state / "cards", secret)
    pin = bytearray(b"123456")
    for entry in store.list_cards():
        personalise.sign(VirtualCard.load(store, entry.card_id), 0x9A, b"m", pin)
        print("signed")
    if not store.list_cards():
        card = personalise.create(store, label="x", pin=pin, puk=personalise.random_puk(),
                                  cost=Argon2Cost(1, 64, 1))
        personalise.generate(card, 0x9A, Algorithm.P_256)
        print("made", card.details().level)
"""


@pytest.mark.interop
def test_keystore_level_with_gnome_keyring(tmp_path: Path) -> None:
    """A real Secret Service: made, found again, locked, and lost."""
    state, home = tmp_path / "state", tmp_path / "home"
    home.mkdir()
    assert _in_session(home, state, password="throw-away") == "made keystore"
    assert not (state / "device-secret.key").exists()
    assert _in_session(home, state, password="throw-away") == "signed"
    assert _in_session(home, state, password=None) == "keystore_locked"
    assert _in_session(home, state, password="throw-away") == "signed"
    (home / ".local/share/keyrings/login.keyring").unlink()
    assert _in_session(home, state, password="throw-away") == "device_secret_lost"


@pytest.mark.interop
def test_without_a_session_bus(tmp_path: Path) -> None:
    """No D-Bus: no key store, said so."""
    program = textwrap.dedent(_IN_SESSION).format(repository=str(_REPOSITORY), state=str(tmp_path / "s"))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "keystore_missing", done.stderr


def _in_session(home: Path, state: Path, *, password: str | None) -> str:
    """Run the program above in a D-Bus session of its own, the login keyring unlocked or not."""
    program = textwrap.dedent(_IN_SESSION).format(repository=str(_REPOSITORY), state=str(state))
    unlock = "--unlock" if password is not None else "--start"
    script = (
        f'gnome-keyring-daemon {unlock} --components=secrets >/dev/null 2>&1; exec "$0" -c "$1" </dev/null'
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "XDG_DATA_HOME": str(home / ".local/share"),
    }
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", "-c", script, sys.executable, program],
        env=environment,
        input=password or "",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The Secret Service's backend, failing as a library below it does."""

    def fail_so(*_given: object) -> None:
        raise error

    members = {"__module__": "keyring.backends.SecretService"}
    failing = type("Keyring", (null.Keyring,), {**members, "get_password": fail_so, "set_password": fail_so})
    monkeypatch.setattr(keyring, "get_keyring", failing)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FileNotFoundError("the bus"), "keystore_missing"),
        (secretstorage.SecretServiceNotAvailableException("gone"), "keystore_missing"),
        (secretstorage.PromptDismissedException("no"), "keystore_locked"),
        (secretstorage.LockedException("locked"), "keystore_locked"),
        (keyring.errors.InitError("none"), "keystore_missing"),
        (keyring.errors.KeyringLocked("locked"), "keystore_locked"),
    ],
)
def test_what_a_key_store_fails_with_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    _fail_with(monkeypatch, error)
    with pytest.raises(DeviceSecretError) as caught:
        open_device_secret("keystore", tmp_path)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_ours_is_none_of_the_key_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_with(monkeypatch, TypeError())
    with pytest.raises(TypeError):
        open_device_secret("keystore", tmp_path)

"""The portal's keys: sealed at rest, rotated, and published with versions that only go up."""

from __future__ import annotations

import json
import stat
import time
from typing import TYPE_CHECKING

import pytest

from portal.key_sets import LIFETIME, KeySets
from portal.keys import MAX_ORDER_KEYS, FileKeys, KeyStoreError, read_passphrase
from protocol import keyset
from protocol.errors import InlayError
from tests.support.portal_kit import CHEAP, PASSPHRASE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.portal_kit import Kit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A key file."""
    path = tmp_path / "keys" / "portal.keys"
    FileKeys.create(path, PASSPHRASE, CHEAP)
    return path


def _reason(path: Path, passphrase: bytes = PASSPHRASE) -> str:
    with pytest.raises(KeyStoreError) as caught:
        FileKeys(path, passphrase)
    assert str(path) in str(caught.value)
    return caught.value.reason


def test_wrong_passphrase(path: Path) -> None:
    """Nothing opens."""
    assert _reason(path, b"another passphrase, as long") == "passphrase_wrong"


def test_missing_and_existing(path: Path) -> None:
    """Keys are never overwritten."""
    assert _reason(path.with_name("none")) == "missing"
    with pytest.raises(KeyStoreError) as caught:
        FileKeys.create(path, PASSPHRASE, CHEAP)
    assert caught.value.reason == "exists"


@pytest.mark.parametrize("damage", ["cut off", "key removed", "keys exchanged", "unknown field"])
def test_damaged(path: Path, damage: str) -> None:
    """A key sealed under one name doesn't open under another."""
    content = json.loads(path.read_text())
    if damage == "key removed":
        del content["keys"]["ca"]
    elif damage == "keys exchanged":
        keys = content["keys"]
        keys["root"], keys["order-1"] = keys["order-1"], keys["root"]
    elif damage == "unknown field":
        content["surprise"] = 1
    text = json.dumps(content)
    path.write_text(text[:-20] if damage == "cut off" else text)
    assert _reason(path) == ("passphrase_wrong" if damage == "keys exchanged" else "damaged")


def test_at_rest(path: Path) -> None:
    """Readable by its owner alone, and no key in it is plain."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    keys = FileKeys(path, PASSPHRASE)
    assert keys.root().to_pem().split(b"\n")[1] not in path.read_bytes()
    assert b"PRIVATE" not in path.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_sealed_for_one_place(path: Path) -> None:
    """What was sealed for one row doesn't open for another, nor altered."""
    keys = FileKeys(path, PASSPHRASE)
    sealed = keys.seal(b"secret", b"here")
    assert keys.unseal(sealed, b"here") == b"secret"
    altered = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for data, place in ((sealed, b"there"), (altered, b"here"), (b"", b"here")):
        with pytest.raises(InlayError):
            keys.unseal(data, place)


def test_passphrase_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file or a credential; too short is refused."""
    file = tmp_path / "inlay-passphrase"
    for content, reason in ((b"short", "passphrase_short"), (None, "missing")):
        if content is not None:
            file.write_bytes(content)
        else:
            file.unlink()
        with pytest.raises(KeyStoreError) as caught:
            read_passphrase(file)
        assert caught.value.reason == reason
    file.write_bytes(PASSPHRASE + b"\n")
    assert read_passphrase(file) == PASSPHRASE
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_passphrase(None) == PASSPHRASE


def test_rotation_survives_a_restart(path: Path) -> None:
    """The newest signs, the oldest goes, root, CA and what was sealed stay."""
    keys = FileKeys(path, PASSPHRASE)
    first, root, sealed = keys.order_keys()[0], keys.root(), keys.seal(b"x", b"y")
    made = [keys.rotate_order_key().thumbprint for _ in range(MAX_ORDER_KEYS)]
    again = FileKeys(path, PASSPHRASE)
    assert [key.thumbprint for key in again.order_keys()] == made[::-1]
    assert first.thumbprint not in made
    assert again.root().thumbprint == root.thumbprint
    assert again.unseal(sealed, b"y") == b"x"


async def _published(kit: Kit, last: int = 0, token: str | None = None) -> tuple[int, str]:
    sets = KeySets(kit.database, kit.portal.keys, kit.clock, "portal.test", "Example portal")
    fresh = await sets.token()
    root = kit.portal.keys.root().public
    key_set = keyset.verify(
        fresh, root=root, portal="portal.test", now=kit.clock(), last_version=last, last_token=token
    )
    return key_set.version, fresh


async def test_key_sets_are_signed_anew_and_count_up(kit: Kit) -> None:
    """The same version after half of its life; the next after a rotation; never one back."""
    version, token = await _published(kit)
    assert await _published(kit, version, token) == (version, token)
    kit.clock.now += LIFETIME // 2
    same, renewed = await _published(kit, version, token)
    assert same == version
    assert renewed != token
    assert isinstance(kit.portal.keys, FileKeys)
    kit.portal.keys.rotate_order_key()
    kit.portal.key_sets.forget()
    later, _ = await _published(kit, version, renewed)
    assert later == version + 1
    with pytest.raises(InlayError) as caught:
        keyset.verify(
            token,
            root=kit.portal.keys.root().public,
            portal="portal.test",
            now=time.time(),
            last_version=later,
        )
    assert caught.value.code == "keyset_rolled_back"

"""What physical cards come with: files that others may read, or that hold something else, stop the portal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from portal import config as configuration
from portal.config import ConfigError

KEY, PUK = "00112233445566778899AABBCCDDEEFF", "87654321"


def written(folder: Path, key: str = KEY, puk: str = PUK, mode: int = 0o600) -> configuration.Config:
    for name, text in (("factory-key", key), ("factory-puk", puk)):
        (folder / name).write_text(text + "\n")
        (folder / name).chmod(mode)
    value = {
        "origin": "https://portal.test",
        "name": "Portal",
        "database": "sqlite+aiosqlite:///portal.db",
        "key_file": "keys",
        "factory_cards": {"management_key_file": "factory-key", "puk_file": "factory-puk"},
    }
    (folder / "config.json").write_text(json.dumps(value))
    return configuration.load(folder / "config.json")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_secret_that_others_may_read_is_none(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        written(tmp_path, mode=mode).factory_secrets()
    assert caught.value.where == str(tmp_path / "factory-key")


@pytest.mark.parametrize("key", ["", "00", KEY[:-2], KEY + "00", "no digits at all, thirty-two bytes"])
def test_a_key_that_no_card_has(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match="16, 24 or 32 bytes"):
        written(tmp_path, key=key).factory_secrets()


@pytest.mark.parametrize("puk", ["", "1234567", "123456789"])
def test_a_puk_that_no_card_has(tmp_path: Path, puk: str) -> None:
    with pytest.raises(ConfigError, match="8 characters"):
        written(tmp_path, puk=puk).factory_secrets()


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    config = written(tmp_path)
    (tmp_path / "factory-puk").unlink()
    with pytest.raises(ConfigError) as caught:
        config.factory_secrets()
    assert caught.value.where == str(tmp_path / "factory-puk")


def test_what_the_files_hold_and_without_them_what_most_makers_use(tmp_path: Path) -> None:
    secrets = written(tmp_path).factory_secrets()
    assert (secrets.management_key, secrets.puk) == (bytes.fromhex(KEY), PUK.encode())
    plain = configuration.Config(
        origin="https://p.test", name="P", database="d", key_file="k"
    ).factory_secrets()
    assert (plain.management_key, plain.puk) == (bytes.fromhex("0102030405060708" * 3), b"12345678")

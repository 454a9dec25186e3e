"""A PKCS#11 token in software (SoftHSM 2), in a folder of its own."""

from __future__ import annotations

from pathlib import Path

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")


def make_config(folder: Path) -> Path:
    """Make an empty store of tokens below a folder; the file for SOFTHSM2_CONF."""
    tokens = folder / "tokens"
    tokens.mkdir()
    config = folder / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    return config

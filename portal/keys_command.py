"""Where the portal's keys are, and ``inlay-portal keys``: shown, made on a token, moved there from the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from portal.keys import FileKeys, KeyStoreError, read_passphrase
from portal.keys_token import TokenKeys, open_token
from protocol import jose

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from portal.config import Config, Pkcs11
    from portal.keys import KeyPort


def open_keys(config: Config) -> KeyPort:
    """The keys as configured.

    Raises:
        KeyStoreError: they can't be used.
    """
    if config.pkcs11 is not None:
        return TokenKeys(open_token(config.pkcs11))
    return FileKeys(Path(config.key_file), passphrase(config))


def make_keys(config: Config) -> KeyPort:
    """The keys as configured; made where there are none yet."""
    if config.pkcs11 is not None:
        process = open_token(config.pkcs11)
        try:
            return TokenKeys(process)
        except KeyStoreError as error:
            if error.reason != "token_empty":
                raise
            return TokenKeys.make(process)
    path = Path(config.key_file)
    return open_keys(config) if path.exists() else FileKeys.create(path, passphrase(config))


def passphrase(config: Config) -> bytes:
    """The key file's passphrase."""
    return read_passphrase(Path(config.passphrase_file) if config.passphrase_file else None)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``keys``."""
    keys = commands.add_parser(
        "keys", help="show the portal's keys; make them on a token, or move them there"
    )
    what = keys.add_subparsers(dest="what", required=True)
    what.add_parser("show", help="where they are, and their fingerprints")
    what.add_parser("make", help="make fresh keys on the configured token: a new portal")
    what.add_parser("move", help="put the key file's keys on the configured token: the same portal")


def run(config: Config, options: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Carry out ``keys``."""
    if options.what == "show":
        _show(config, open_keys(config), say)
        return 0
    if config.pkcs11 is None:
        say("There is no token: the configuration has no pkcs11.")
        return 1
    if options.what == "make":
        made = TokenKeys.make(open_token(config.pkcs11))
    else:
        made = _moved(config, config.pkcs11)
        say("The keys are on the token.")
        say(f"{config.key_file} isn't read any more: keep it off this machine, or destroy it.")
    _show(config, made, say)
    return 0


def _moved(config: Config, token: Pkcs11) -> TokenKeys:
    return TokenKeys.move(open_token(token), FileKeys(Path(config.key_file), passphrase(config)))


def _show(config: Config, keys: KeyPort, say: Callable[[str], None]) -> None:
    where = (
        f"token {config.pkcs11.token} of {config.pkcs11.module}"
        if config.pkcs11
        else f"file {config.key_file}"
    )
    say(f"keys: {where}")
    say(f"root: {jose.fingerprint(keys.root().public)}")
    for key in keys.order_keys():
        say(f"order: {key.thumbprint}")

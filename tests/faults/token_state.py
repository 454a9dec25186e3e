"""What is on a token of SoftHSM 2, for `tests.faults.token_tears`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from agent.pcsc.pkcs11 import Driver
from protocol.errors import InlayError
from tests.faults.token_jobs import NEW_PUK
from tests.support import softhsm
from tests.support.token_orders import NEW
from tests.support.token_readers import PIN, SO_PIN


class State(NamedTuple):
    """What a token has."""

    pin: bytes | None
    puk: bytes | None
    keys: frozenset[tuple[bytes, str]]
    certificates: frozenset[bytes]
    slots: tuple[str, ...]


async def state_of(store: Path) -> State:
    """What is on the token of a store, seen on a copy of it: no try is spent."""
    with tempfile.TemporaryDirectory(dir=store.parent) as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(store, copy)
        before = use(copy)
        try:
            pin = await _right(False, PIN, NEW)
            puk = await _right(True, SO_PIN, NEW_PUK)
            keys, certificates = await _objects(pin) if pin else ([], [])
        finally:
            os.environ["SOFTHSM2_CONF"] = before
    whole = sorted(key[:1].hex().upper() for key, kind in keys if kind == "certificate")
    return State(pin, puk, frozenset(keys), frozenset(certificates), tuple(whole))


def use(store: Path) -> str:
    """Make a store the one of this process and its children; the configuration of before."""
    before = os.environ["SOFTHSM2_CONF"]
    config = store.with_suffix(".conf")
    config.write_text(f"directories.tokendir = {store}\nobjectstore.backend = file\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(config)
    return before


@asynccontextmanager
async def _opened() -> AsyncIterator[Driver]:
    driver = Driver(softhsm.MODULE)
    try:
        (token,) = [token for token in await driver.tokens() if token.initialised]
        await driver.open(token)
        yield driver
    finally:
        await driver.close()


async def _right(officer: bool, *pins: bytes) -> bytes | None:
    async with _opened() as driver:
        for pin in pins:
            try:
                await (driver.verify_officer if officer else driver.verify)(bytearray(pin))
            except InlayError:
                continue
            return pin
    return None


async def _objects(pin: bytes) -> tuple[list[tuple[bytes, str]], list[bytes]]:
    async with _opened() as driver:
        await driver.verify(bytearray(pin))
        found: list[tuple[bytes, str]] = [(item.key, item.kind) for item in await driver.objects()]
        ids = {key for key, kind in found if kind == "certificate"}
        return found, [der for key in ids for der in await driver.certificates(key)]


def as_it_was(before: State, after: State, *, killed: bool) -> bool:
    """Whether an order has left a token as it was.

    An agent that was killed can't take back what it has put beside: the PIN is gone with it. The next order does.
    """
    if not killed:
        return after == before
    stays = before.keys <= after.keys and before.certificates <= after.certificates
    return stays and (after.pin, after.puk) == (before.pin, before.puk)

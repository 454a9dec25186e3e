"""Clients written by others against one card in one run; `-s` or `make clients` prints the table.

The rows of Chromium come first: the last ones of the others leave the card without its keys.
"""

from __future__ import annotations

import contextlib
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.interop.card import (
    client_chromium,
    client_gnupg,
    client_nss,
    client_opensc,
    client_ssh,
    client_yubico,
)
from tests.interop.card.certified import Root
from tests.interop.card.clients import Client, Operation, make_card
from tests.support.certificates import ThrowAwayCA
from tests.support.display import VirtualDisplay
from tests.support.pcscd import PrivatePcscd
from tests.support.virtual_cards import InReader, store_in

pytestmark = pytest.mark.interop

OPERATIONS = [
    *client_opensc.OPERATIONS,
    *client_ssh.OPERATIONS,
    *client_nss.OPERATIONS,
    *client_gnupg.OPERATIONS,
    *client_yubico.OPERATIONS,
    *client_yubico.LAST,
]


@dataclass
class Table:
    """What was done, row by row."""

    rows: list[tuple[Operation, str]] = field(default_factory=list)

    @contextlib.contextmanager
    def row(self, row: Operation) -> Iterator[None]:
        """Write down what comes of an operation: failed, unless this is left without an exception."""
        self.rows.append((row, "FAILED"))
        yield
        self.rows[-1] = (row, f"can't: {row.cannot}" if row.cannot else "yes")

    def text(self) -> str:
        """The table: client, operation, result."""
        lines = [f"{row.client:16} {row.name:38} {result}" for row, result in self.rows]
        return "\n".join(["", f"{'client':16} {'operation':38} result", *lines, ""])


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """The rows of this run, printed at its end."""
    made = Table()
    yield made
    sys.stdout.write(made.text())


@pytest.fixture(scope="module")
def client(pcscd: PrivatePcscd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One card for all rows."""
    root = Root()
    card = make_card(store_in(tmp_path_factory.mktemp("card")), root)
    with InReader(card, pcscd.vpcd_port):
        yield Client(card, pcscd, root, tmp_path_factory.mktemp("home"))


@pytest.mark.browser
@pytest.mark.parametrize("newest", client_chromium.VERSIONS)
async def test_chromium(
    client: Client,
    table: Table,
    newest: ssl.TLSVersion,
    xvfb: VirtualDisplay,
    https_ca: ThrowAwayCA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Log-in to a server that lets nobody in without a certificate of the card's issuer."""
    name = f"log in to a server (9A, {client_chromium.VERSIONS[newest]})"
    with table.row(Operation("Chromium", name, lambda _client: None)):
        await client_chromium.log_in(client, newest, xvfb, https_ca, tmp_path, monkeypatch)


@pytest.mark.parametrize("row", OPERATIONS, ids=[f"{row.client}: {row.name}" for row in OPERATIONS])
def test_row(client: Client, table: Table, row: Operation) -> None:
    """The operation works, judged by others; or it can't, for a reason that still holds."""
    with table.row(row):
        row.run(client)

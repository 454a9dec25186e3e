"""Clients written by others against one card in one run; `-s` or `make clients` prints the table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.interop.card import client_gnupg, client_nss, client_opensc, client_ssh, client_yubico
from tests.interop.card.certified import Root
from tests.interop.card.clients import Client, Operation, make_card
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


@pytest.mark.parametrize("row", OPERATIONS, ids=[f"{row.client}: {row.name}" for row in OPERATIONS])
def test_row(client: Client, table: Table, row: Operation) -> None:
    """The operation works, judged by others; or it can't, for a reason that still holds."""
    table.rows.append((row, "FAILED"))
    row.run(client)
    table.rows[-1] = (row, f"can't: {row.cannot}" if row.cannot else "yes")

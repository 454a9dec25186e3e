"""Some cells of `make crash-matrix`: each kind of fault, with and without HoldUntilProof, on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.crash_matrix import Cell, Matrix, Row, opened, summary
from tests.faults.crash_plan import ISSUE, RELEASE, Point
from tests.support.postgresql import PrivatePostgresql

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

_STORE = Point("Issuing.store", 2)
_ON_HOLD = (
    Cell(Point("BuiltinCa.issue", 2, "after"), "kill", leaves=True),
    Cell(Point("Incoming._receipt", 1, "after"), "kill"),
    Cell(Point(RELEASE, 2), "hang"),
)
_OFF = (
    Cell(_STORE, "cut"),
    Cell(Point(ISSUE, 3), "late"),
    Cell(Point(ISSUE, 1), "lose"),
)


def _run(matrix: Matrix, chosen: Sequence[Cell]) -> list[Row]:
    steps = set(matrix.steps())
    missing = [str(cell) for cell in chosen if cell.at not in steps]
    assert not missing, f"no such step any more: {missing}"
    return [matrix.run(cell) for cell in chosen]


def _check(rows: Sequence[Row]) -> None:
    table = "\n".join(map(str, rows))
    assert summary(rows) == f"crash matrix: {len(rows)} cells, 0 orphans", table
    assert not [row for row in rows if row.faults or row.end == "not reached"], table


def test_on_hold_until_the_proof() -> None:
    """Killed and cut while the CA signs and releases; a CA that hangs at the release."""
    with opened("sqlite", hold=True) as matrix:
        _check(_run(matrix, _ON_HOLD))


def test_good_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the comparison is worth something: without the reconciler there are orphans."""
    with opened("sqlite", hold=False) as matrix:
        _check(_run(matrix, _OFF))
        monkeypatch.setattr("tests.faults.crash_site.CrashPortal.reconcile", lambda _self: 0)
        # the portal's own alarm may be quicker than the look at the list, on a slow machine
        killed = (matrix.run(Cell(_STORE, "kill", leaves=True)) for _ in range(3))
        assert any(row.orphans > 0 for row in killed)


def test_on_postgresql() -> None:
    """A connection that the server ends, while a card is renewed; old certificates stay good until new ones are."""
    with PrivatePostgresql() as server, opened("postgresql", "renew", hold=True, server=server) as matrix:
        _check(_run(matrix, (Cell(_STORE, "cut"),)))

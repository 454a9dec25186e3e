"""CSV: whatever a name or label holds, a spreadsheet shows it and computes nothing."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.staff.csv_cells import guarded, line

_FORMULAS = [
    "=1+1",
    '=HYPERLINK("https://evil.example","click")',
    "+49 30",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "  =1",
    "\u00a0=1",
    "＝1",  # noqa: RUF001 # the wide form
    "|calc",
    "%0",
]


@pytest.mark.parametrize("cell", _FORMULAS)
def test_a_formula_becomes_a_text(cell: str) -> None:
    assert guarded(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["", "Ada", "a=b", "2027-01-15", "3fa1", "Ada -- Example", " Ada"])
def test_other_cells_stay(cell: str) -> None:
    assert guarded(cell) == cell


@given(st.lists(st.text(), min_size=1, max_size=6))
def test_a_line_is_read_back_as_it_was_written(cells: list[str]) -> None:
    rows = list(csv.reader(io.StringIO(line(cells), newline="")))
    assert rows == [[guarded(cell) for cell in cells]]


@pytest.mark.parametrize(
    "name",
    [
        "desk;=cmd|'/C calc'!A0",
        "desk; +1",
        'desk;"=1',
        'desk; ""@A1',
        "desk\n=1",
        "\r=1",
        "a;-1;=2",
        "desk;＝1",  # noqa: RUF001
    ],
)
def test_a_spreadsheet_that_parts_cells_at_semicolons_computes_nothing(name: str) -> None:
    """A device's name is its user's own: read as such a spreadsheet does, no cell begins a formula."""
    for cell in re.split(r"[;\r\n]", line(["1", name, "Active"])):
        assert cell.strip(' "')[:1] not in set("=+-@＝"), cell  # noqa: RUF001


def test_a_semicolon_alone_is_left_as_it_is() -> None:
    assert guarded("Desk; second floor") == "Desk; second floor"

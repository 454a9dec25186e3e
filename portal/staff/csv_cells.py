"""CSV that a spreadsheet opens as text: RFC 4180, UTF-8 with its mark, and no cell that is a formula."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MARK: Final = "\ufeff"
"""Before the first line: without it spreadsheets take the file for another encoding."""
_STARTS_FORMULA: Final = frozenset("=+-@\t\r\n|%＝＋－＠")  # noqa: RUF001 # the wide forms count as well

_BEGINNINGS: Final = re.escape("".join(sorted(_STARTS_FORMULA)))
_CELL_INSIDE: Final = re.compile(f'([;\r\n][ "\u00a0\u3000]*)(?=[{_BEGINNINGS}])')
"""What would begin a formula where a spreadsheet takes another character than the comma to part cells."""


def line(cells: Iterable[str]) -> str:
    """One line with its end; every cell is quoted, and one that a spreadsheet would compute is made a text."""
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow([guarded(cell) for cell in cells])
    return out.getvalue()


def guarded(cell: str) -> str:
    """A cell that no spreadsheet computes: an apostrophe stands before what would begin a formula.

    In many countries a spreadsheet parts cells at semicolons, whatever the file's quotes say: there, too.
    """
    begin = cell.lstrip(" \u00a0\u3000")[:1]
    safe = _CELL_INSIDE.sub(r"\1'", cell)
    return "'" + safe if begin in _STARTS_FORMULA and begin else safe
